"""The only importer of redis: keys, snapshot reads, the commit; a memory store with the same contract."""
