-- A frame of the feed is an array of records that stand in `transitions` already: the outbox keeps their names, in order.
-- What is left of the bodies is written, sent and trimmed within the hour, so compressing it would be work for nothing.
alter table zentra.outbox alter column body drop not null;
alter table zentra.outbox alter column body set storage external;
alter table zentra.outbox add column intents uuid[], add column sequences integer[];
alter table zentra.outbox alter column intents set storage external;
alter table zentra.outbox alter column sequences set storage external;
alter table zentra.outbox add constraint outbox_body_or_names check (
    (body is null) = (intents is not null) and (intents is null) = (sequences is null)
);
