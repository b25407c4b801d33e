"""Where raw files are: folders, buckets, links, lists of addresses, and remote images."""
