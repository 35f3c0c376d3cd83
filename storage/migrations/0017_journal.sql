-- Effective dates beside the dates of record, what corrects what, and exchange rates.

-- Null: it counts from the moment at which it was recorded. Only rows that say otherwise are in these indexes.
alter table postings add column if not exists effective_at timestamptz;
create index postings_debit_effective on postings (debit, effective_at) where effective_at is not null;
create index postings_credit_effective on postings (credit, effective_at) where effective_at is not null;

-- What was taken back by force may be missing below a limit; an audit asks for all of it.
create index postings_forced on postings (tenant) where kind = 'forced_reversal';

-- A correction is an intent of its own and changes nothing about the one that it puts right: this leads from one to the
-- other, either way.
create table corrections (
    tenant     text not null,
    original   uuid not null,
    correction uuid not null,
    at         timestamptz not null,
    primary key (original, correction)
);
create index corrections_correction on corrections (correction);

-- The rate in force for each pair: units of `buy` for one unit of `sell`, as a decimal text. `versions` keeps all that
-- there ever were; it is written by the trigger alone.
create table fx_rates (
    tenant          text not null references tenants,
    sell            text not null check (sell ~ '^[A-Z]{3}$'),
    buy             text not null check (buy ~ '^[A-Z]{3}$' and buy <> sell),
    version         integer not null,
    mid             text not null check (mid ~ '^[0-9]{1,18}(\.[0-9]{1,18})?$'),
    spread_bps      integer not null check (spread_bps between 0 and 9999),
    fee_minor       bigint not null check (fee_minor >= 0),
    as_of           timestamptz not null,
    max_age_seconds integer not null check (max_age_seconds > 0),
    source          text not null,
    created_by      text not null,
    created_at      timestamptz not null default now(),
    primary key (tenant, sell, buy)
) with (fillfactor = 50);

create table fx_rate_versions (like fx_rates);
alter table fx_rate_versions add primary key (tenant, sell, buy, version);

create function keep_rate_version() returns trigger
    language plpgsql security definer set search_path = zentra
as $$
begin
    insert into zentra.fx_rate_versions select new.*;
    return null;
end $$;
alter function keep_rate_version() owner to zentra_writer;
revoke all on function keep_rate_version() from public;
create trigger keep_rate_version after insert or update on fx_rates
    for each row execute function keep_rate_version();

create trigger configuration_changed after insert or update or delete on fx_rates
    for each statement execute function bump_configuration_version();

grant select on corrections, fx_rates, fx_rate_versions to zentra_writer, zentra_tenant;
grant insert on corrections, fx_rate_versions to zentra_writer;
grant insert, update on fx_rates to zentra_tenant;
do $$
declare
    name text;
begin
    foreach name in array array['corrections', 'fx_rates', 'fx_rate_versions'] loop
        execute format('alter table zentra.%I enable row level security', name);
        execute format('alter table zentra.%I force row level security', name);
        execute format('create policy tenant_only on zentra.%I using (tenant = (select current_setting(''zentra.tenant'', true)))'
                       ' with check (tenant = (select current_setting(''zentra.tenant'', true)))', name);
    end loop;
end $$;
