-- Several books per tenant; who changed an account, when and why; numbers that others know accounts by; monitors; and
-- what makes the balance of any moment quick to find.

-- Books ------------------------------------------------------------------------------------------------------------

-- Every tenant has the book "default" from the start. The book of an account never changes, and no posting leaves it.
create table books (
    tenant     text not null references tenants,
    id         text not null check (id ~ '^[a-z][a-z0-9-]{0,30}$'),
    name       text not null,
    created_by text not null,
    created_at timestamptz not null default now(),
    primary key (tenant, id)
);
insert into books (tenant, id, name, created_by) select id, 'default', 'Default', 'system' from tenants;

create function open_default_book() returns trigger
    language plpgsql security definer set search_path = zentra
as $$
begin
    insert into zentra.books (tenant, id, name, created_by) values (new.id, 'default', 'Default', 'system');
    return null;
end $$;
alter function open_default_book() owner to zentra_writer;
revoke all on function open_default_book() from public;
create trigger open_default_book after insert on tenants for each row execute function open_default_book();
grant select, insert on books to zentra_writer;
grant select, insert on books to zentra_tenant;

alter table accounts
    add column book      text not null default 'default',
    add column monitored boolean not null default false,   -- has monitors: only then are they looked for
    add foreign key (tenant, book) references books;

-- System accounts are asked for by what they are. Ids are walked in the order of their bytes, whatever the collation.
create index accounts_system on accounts (tenant, type, currency, book)
    where type in ('settlement', 'fee', 'suspense', 'liquidity');
create index accounts_by_name on accounts (tenant, book, account_id collate "C");

grant update (overdraft_limit, monitored) on accounts to zentra_tenant;

-- Changes ------------------------------------------------------------------------------------------------------------

-- One record per change of an account, chained like the records of an intent: SHA-256(hash before || record).
create table account_changes (
    account  bigint not null references accounts,
    sequence integer not null,
    tenant   text not null,
    at       timestamptz not null,
    record   bytea not null,            -- canonical JSON
    hash     bytea not null,
    primary key (account, sequence)
);
grant select, insert on account_changes to zentra_tenant;
grant select on account_changes to zentra_writer;

-- Numbers ------------------------------------------------------------------------------------------------------------

-- A number is given to one account, for ever: one that is retired is not given to another, so an old payment instruction
-- never reaches a stranger.
create table account_numbers (
    tenant     text not null references tenants,
    scheme     text not null check (scheme in ('iban', 'nuban', 'virtual')),
    number     text not null,
    account    bigint not null references accounts,
    created_by text not null,
    created_at timestamptz not null default now(),
    retired_at timestamptz,
    primary key (tenant, scheme, number)
);
create index account_numbers_account on account_numbers (account);
grant select, insert on account_numbers to zentra_tenant;
grant update (retired_at) on account_numbers to zentra_tenant;
grant select on account_numbers to zentra_writer;

-- The engine remembers which account a number means; a new one is looked up when it is first named.
create trigger configuration_changed after update on account_numbers
    for each statement execute function account_changed();

-- Monitors -----------------------------------------------------------------------------------------------------------

create table account_monitors (
    tenant     text not null,
    id         uuid not null,
    account    bigint not null references accounts,
    of         text not null check (of in ('available', 'posted', 'pending')),
    "when"     text not null check ("when" in ('below', 'at_most', 'at_least', 'above')),
    minor      bigint not null,
    created_by text not null,
    created_at timestamptz not null default now(),
    removed_at timestamptz,
    primary key (tenant, id)
);
create index account_monitors_account on account_monitors (account) where removed_at is null;
grant select, insert on account_monitors to zentra_tenant;
grant update (removed_at) on account_monitors to zentra_tenant;
grant select on account_monitors to zentra_writer;

do $$
declare
    name text;
begin
    foreach name in array array['books', 'account_changes', 'account_numbers', 'account_monitors'] loop
        execute format('alter table zentra.%I enable row level security', name);
        execute format('alter table zentra.%I force row level security', name);
        execute format('create policy tenant_only on zentra.%I using (tenant = (select current_setting(''zentra.tenant'', true)))'
                       ' with check (tenant = (select current_setting(''zentra.tenant'', true)))', name);
    end loop;
end $$;

-- Balances of the past -----------------------------------------------------------------------------------------------

-- Null: the entry counts from when it was recorded.
alter table postings add column if not exists effective_at timestamptz;
create index if not exists postings_debit_effective on postings (debit, effective_at) where effective_at is not null;
create index if not exists postings_credit_effective on postings (credit, effective_at) where effective_at is not null;

-- Sums of all entries of an account recorded up to a moment that is past for good. They are made when somebody asks, every
-- few thousand entries, so the balance of any moment is a mark and the few entries behind it. Nothing else rests on them:
-- they may be deleted at any time, and whoever moves old postings away leaves a mark behind the last of them.
create table balance_marks (
    account         bigint not null references accounts,
    at              timestamptz not null,
    tenant          text not null,
    entries         bigint not null,    -- so many there were
    debits_pending  numeric not null,
    credits_pending numeric not null,
    debits_posted   numeric not null,
    credits_posted  numeric not null,
    primary key (account, at)
);
alter table balance_marks enable row level security;
alter table balance_marks force row level security;
create policy tenant_only on balance_marks using (tenant = (select current_setting('zentra.tenant', true)));
grant select on balance_marks to zentra_tenant;
grant select, insert, delete on balance_marks to zentra_writer;

-- Makes the next marks of an account of the asking tenant: looks at up to `most` entries behind the last mark that were
-- recorded before `until`, leaves a mark after every `every` of them, and returns how many it made. What it stores follows
-- from the postings alone, whoever asks.
create function zentra.mark_balances(wanted bigint, until timestamptz, every integer, most integer) returns integer
    language sql volatile security definer set search_path = zentra
as $$
    with owned as (
        select id, tenant from zentra.accounts
        where id = wanted and tenant = current_setting('zentra.tenant', true)
    ), last as (
        select at, entries, debits_pending, credits_pending, debits_posted, credits_posted
        from zentra.balance_marks where account = (select id from owned) order by at desc limit 1
    ), sides as (
        (select at, pending as dp, 0::bigint as cp, posted as ds, 0::bigint as cs from zentra.postings
         where debit = (select id from owned) and at > coalesce((select at from last), '-infinity')
            and at < least(until, now() - interval '10 minutes')
         order by at limit most)
        union all
        (select at, 0, pending, 0, posted from zentra.postings
         where credit = (select id from owned) and at > coalesce((select at from last), '-infinity')
            and at < least(until, now() - interval '10 minutes')
         order by at limit most)
    ), looked as (
        select * from sides order by at limit most
    ), moments as (
        select at, count(*) as entries, sum(dp) as dp, sum(cp) as cp, sum(ds) as ds, sum(cs) as cs
        from looked group by at
    ), running as (
        select at, sum(entries) over upto as entries, sum(dp) over upto as dp, sum(cp) over upto as cp,
               sum(ds) over upto as ds, sum(cs) over upto as cs, max(at) over () as latest,
               (select count(*) from looked) as rows
        from moments window upto as (order by at)
    ), whole as (   -- of the last moment some entries may not have been looked at
        select *, lag(entries, 1, 0::numeric) over (order by at) as before from running
        where at < latest or rows < most
    ), made as (
        insert into zentra.balance_marks
            (account, at, tenant, entries, debits_pending, credits_pending, debits_posted, credits_posted)
        select o.id, w.at, o.tenant, w.entries + coalesce(l.entries, 0), w.dp + coalesce(l.debits_pending, 0),
               w.cp + coalesce(l.credits_pending, 0), w.ds + coalesce(l.debits_posted, 0),
               w.cs + coalesce(l.credits_posted, 0)
        from whole w cross join owned o left join last l on true
        where div(w.before, every) < div(w.entries, every)
        on conflict do nothing
        returning 1
    )
    select count(*)::integer from made
$$;
alter function zentra.mark_balances(bigint, timestamptz, integer, integer) owner to zentra_writer;
revoke all on function zentra.mark_balances(bigint, timestamptz, integer, integer) from public;
grant execute on function zentra.mark_balances(bigint, timestamptz, integer, integer) to zentra_tenant, zentra_writer;
