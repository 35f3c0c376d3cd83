-- A leaf is looked for by intent and hash: one index in the order of the log instead of two, one of them in random order.
drop index zentra.log_leaves_hash;
drop index zentra.log_leaves_intent;
create unique index log_leaves_once on zentra.log_leaves (intent, hash);

-- Rows of the outbox are found by what is unsent, by what is not consumed, or by id; by age alone never.
drop index zentra.outbox_created;
