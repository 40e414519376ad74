"""What the machine is and does: devices, memory, folders, versions, streams of chance."""
