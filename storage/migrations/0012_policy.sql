-- Policies with a life: draft, validated, active, retired. Rules never change once they are written and every version is
-- kept for ever; who did what with which version, and when, stands in a table of its own that is only added to.

alter table policies no force row level security;   -- the owner moves what is there into the new states

alter table policies
    add column state  text not null default 'active' check (state in ('draft', 'validated', 'active', 'retired')),
    add column digest text,                         -- of the document; null: written before there were digests
    add column note   text not null default '';
update policies p set state = 'retired'
where exists (select from policies q where q.tenant = p.tenant and q.version > p.version);
create unique index policies_active on policies (tenant) where state = 'active';
alter table policies force row level security;

create table policy_events (
    tenant    text not null,
    number    bigint generated always as identity,
    version   integer not null,
    action    text not null check (action in ('drafted', 'validated', 'backtested', 'promoted', 'rolled_back', 'installed',
                                              'retired')),
    principal text not null,
    at        timestamptz not null default clock_timestamp(),
    detail    jsonb not null default '{}',
    primary key (tenant, number),
    foreign key (tenant, version) references policies
);

create function policies_are_kept() returns trigger
    language plpgsql set search_path = zentra
as $$
begin
    raise exception 'version % of the policy of % is kept as it is', old.version, old.tenant
        using errcode = 'check_violation';
end $$;
create trigger policies_are_kept before update of tenant, version, rules, created_by, created_at, digest, note on policies
    for each row execute function policies_are_kept();
create trigger policies_are_never_deleted before delete on policies
    for each row execute function policies_are_kept();

grant insert on policies to zentra_tenant;
grant update (state) on policies to zentra_tenant;
grant select, insert on policy_events to zentra_tenant;
grant select on policy_events to zentra_writer;
alter table policy_events enable row level security;
alter table policy_events force row level security;
create policy tenant_only on policy_events using (tenant = (select current_setting('zentra.tenant', true)))
    with check (tenant = (select current_setting('zentra.tenant', true)));

-- A rolling window keeps its buckets in its counter's row: number, count and amount of each, one after the other. Its
-- count and minor are the sums over them. Null: a counter of one period, which is all that the daily limits use.
alter table velocity add column buckets bigint[];
