"""Sources, one file each: what a user downloads, read into tables."""
