-- What lists walk along. None of these tables is written by the path of every intent: accounts and reviews are few, cases
-- are exceptions, refusals are counted per minute. Intents, postings and deliveries get no index for their lists.
create index accounts_in_order on zentra.accounts (tenant, id);
create index reviews_in_order on zentra.reviews (tenant, opened_at, id);
create index cases_in_order on zentra.cases (tenant, opened_at, id);
create index denials_in_order on zentra.denials (tenant, minute, actor, action, reason);

-- Ids of intents begin with the time, so their list is a walk along the primary key, which all tenants share. How far a
-- page walks has to be bounded in rows, whoever's they are; row security shows a tenant none but its own. This function
-- says where that many rows end, to the millisecond, and nothing about them.
create function zentra.intents_before(before uuid, rows integer) returns uuid
    language sql stable security definer set search_path = zentra
as $$
    select (substr(id::text, 1, 13) || '-0000-0000-000000000000')::uuid
    from zentra.intents where id < before order by id desc offset least(rows, 20000) - 1 limit 1
$$;
alter function zentra.intents_before(uuid, integer) owner to zentra_writer;   -- reads under its rights, whoever migrates
revoke all on function zentra.intents_before(uuid, integer) from public;
grant execute on function zentra.intents_before(uuid, integer) to zentra_tenant, zentra_writer;
