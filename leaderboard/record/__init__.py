"""The record: what a run says, how it is stored and put into words. The contract that bench writes by."""
