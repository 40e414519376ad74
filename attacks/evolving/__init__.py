"""What the evolutionary searches are made of: genomes, variation, selection, painting."""
