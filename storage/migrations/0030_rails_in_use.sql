-- Whether a payment is under way that was ever given to a rail: the rail is then the one that may have been paid by, so it
-- has to stay who it is. Walks along the open intents; for an operator's command that is soon enough. The rights are the
-- writer's, for the owner might not see the tenants' rows.
create function rail_in_use(rail text) returns boolean
    language sql stable security definer set search_path = zentra
as $$
    select exists (
        select from zentra.timers t
        join zentra.transitions r on r.intent = t.key and r.event = 'provider.routed'
        where t.kind = 'intent' and t.name = 'state'
            and convert_from(r.record, 'UTF8')::jsonb #>> '{facts,rail}' = rail_in_use.rail
    )
$$;
alter function rail_in_use(text) owner to zentra_writer;
revoke all on function rail_in_use(text) from public;
grant execute on function rail_in_use(text) to zentra_writer;
