-- Closing of periods: until when the books of a tenant are closed, what its accounts stood at then, and what was archived.

-- Null: it counts from when it was recorded.
alter table postings add column if not exists effective_at timestamptz;

-- A closing is kept for ever; reopening it is told beside it. The books are closed until the latest that is in force, so
-- only the latest can be reopened. While `verified_at` is null the time is closed already and being checked.
create table periods (
    tenant        text not null references tenants,
    book          text not null default 'default',
    until         timestamptz not null,             -- nothing may count before this any more
    closed_by     text not null,
    closed_at     timestamptz not null default now(),
    verified_at   timestamptz,
    accounts      integer,                          -- with a closing balance
    postings      bigint,                           -- that count before `until`
    reopened_by   text,
    reopened_at   timestamptz,
    reason        text,                             -- of the reopening
    archived_at   timestamptz,                      -- its postings are in an archive that was verified
    manifest      bytea,                            -- SHA-256 of that archive's manifest
    id            uuid primary key default gen_random_uuid(),
    check ((reopened_at is null) = (reopened_by is null))
);
create unique index periods_in_force on periods (tenant, book, until) where reopened_at is null;

-- What the postings that count before a closing come to, by account; accounts without any have no row.
create table closing_balances (
    period          uuid not null references periods,
    account         bigint not null references accounts,
    tenant          text not null,
    debits_pending  numeric(40) not null,
    credits_pending numeric(40) not null,
    debits_posted   numeric(40) not null,
    credits_posted  numeric(40) not null,
    primary key (period, account)
);
create index closing_balances_account on closing_balances (account, period);

grant select on periods, closing_balances to zentra_writer, zentra_tenant;
do $$
declare
    name text;
begin
    foreach name in array array['periods', 'closing_balances'] loop
        execute format('alter table zentra.%I enable row level security', name);
        execute format('alter table zentra.%I force row level security', name);
        execute format('create policy tenant_only on zentra.%I using (tenant = (select current_setting(''zentra.tenant'', true)))'
                       ' with check (tenant = (select current_setting(''zentra.tenant'', true)))', name);
    end loop;
end $$;

-- Like a freeze of an account (0005): whoever closes waits for the commits that are under way, and no tick that did not
-- know of it can commit what counts before it.
create trigger configuration_changed after insert or update on periods
    for each statement execute function account_changed();
