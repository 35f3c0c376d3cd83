-- Reviews in depth: due and overdue, whose they are, several approvals; and approvals for what is no intent.

-- What a queue is looked through by, and what an open review has come to. Its history stands in the records.
alter table reviews
    add column due_at      timestamptz,
    add column level       integer  not null default 0,      -- how often it was escalated
    add column breached    boolean  not null default false,  -- nobody decided by due_at, and that was escalated
    add column approvals   smallint not null default 1 check (approvals between 1 and 8),
    add column approved_by text[]   not null default '{}',
    add column comments    integer  not null default 0,
    add column kind        text,
    add column currency    text,
    add column minor       bigint;
update reviews r set kind = c.command ->> 'kind', currency = c.command ->> 'currency', minor = (c.command ->> 'minor')::bigint
from (select id, convert_from(command, 'UTF8')::jsonb as command from intents) c where c.id = r.id;
create index reviews_due on reviews (due_at) where status = 'open';

-- Seats instead of one place: a round is decided by one rejection or by as many approvals as it takes, each by another
-- person. A decision that the engine refuses gives its seat back.
alter table review_decisions
    add column seat         smallint not null default 1,
    add column command      uuid,
    add column request_hash text,
    add column refused      text;
alter table review_decisions drop constraint review_decisions_pkey;
create unique index review_decisions_seats on review_decisions (review, round, seat) where refused is null;
create unique index review_decisions_command on review_decisions (command);
grant update (refused) on review_decisions to zentra_writer;

-- What a tenant wants of its reviews, in versions; the last is in force, for reviews that open from then on.
create table review_rules (
    tenant     text not null references tenants,
    version    integer not null,
    rules      jsonb not null,
    created_by text not null,
    created_at timestamptz not null default now(),
    primary key (tenant, version)
);

-- What somebody asked for that another person has to agree to. The request never changes: `request_hash` is what a
-- decision names. Whatever an approval brings about is written in the transaction that approves it.
create table approvals (
    id           uuid primary key,
    tenant       text not null references tenants,
    kind         text not null,        -- forced_reversal, account_limit, configuration
    subject      text not null,        -- what it is about, by its text id
    request      bytea not null,       -- canonical JSON
    request_hash text not null,
    reason       text not null,
    created_by   text not null,
    role         text not null,        -- in which it was asked for
    status       text not null default 'open' check (status in ('open', 'approved', 'rejected', 'cancelled', 'expired')),
    opened_at    timestamptz not null default now(),
    expires_at   timestamptz not null,
    decided_by   text,
    decided_at   timestamptz,
    decision     text,                 -- why it was decided so
    check ((status = 'open') = (decided_at is null)),
    check (status <> 'approved' or decided_by <> created_by)
);
create index approvals_in_order on approvals (tenant, opened_at, id);

grant select on review_rules, approvals to zentra_writer, zentra_tenant;
grant insert on approvals to zentra_writer;
grant update (status, decided_by, decided_at, decision) on approvals to zentra_writer;
grant update (overdraft_limit) on accounts to zentra_writer;   -- by an approval

do $$
declare
    name text;
begin
    foreach name in array array['review_rules', 'approvals'] loop
        execute format('alter table zentra.%I enable row level security', name);
        execute format('alter table zentra.%I force row level security', name);
        execute format('create policy tenant_only on zentra.%I using (tenant = (select current_setting(''zentra.tenant'', true)))'
                       ' with check (tenant = (select current_setting(''zentra.tenant'', true)))', name);
    end loop;
    -- The engine asks who may decide by what it holds in memory.
    foreach name in array array['review_rules', 'principals'] loop
        execute format('create trigger configuration_changed after insert or update or delete on zentra.%I'
                       ' for each statement execute function zentra.bump_configuration_version()', name);
    end loop;
end $$;
