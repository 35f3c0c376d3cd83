-- Whoever asks for what belongs to an intent names its tenant too. Both stand in one index: else the planner, which believes
-- a table that was never analyzed to be small, goes through everything that the tenant has and intersects.
drop index zentra.log_leaves_once;
create unique index log_leaves_once on zentra.log_leaves (intent, tenant, hash);   -- an intent has one tenant
drop index zentra.deliveries_intent;
create index deliveries_intent on zentra.deliveries (intent, tenant);
