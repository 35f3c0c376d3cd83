"""Who comes in, and how often: tokens of issuers, certificates of services, limits and floods."""
