"""Evidence: canonical bytes, the chain of records, the Merkle log, packets and their verification."""
