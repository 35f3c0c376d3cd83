-- Holds as they stand: a projection of the records, written by the commits that write those. It is what lists walk along,
-- and what a reserve asks that is short of funds: which holds on this account have expired and are not booked yet?
-- Holds behind a rail have no row: nothing is added to the path of a transfer.
create table zentra.holds (
    intent     uuid primary key,
    tenant     text not null,
    intent_id  text not null,
    account    bigint not null,         -- where it is held
    account_id text not null,
    currency   text not null,
    minor      bigint not null check (minor > 0),
    remaining  bigint not null check (remaining >= 0),
    captured   bigint not null check (captured >= 0 and captured + remaining <= minor),
    status     text not null check (status in ('open', 'captured', 'voided', 'expired')),
    placed_at  timestamptz not null,
    expires_at timestamptz not null,
    ended_at   timestamptz,
    check ((status = 'open') = (ended_at is null)),
    check (status = 'open' or remaining = 0)
) with (fillfactor = 70);
create index holds_open on zentra.holds (account, expires_at) where status = 'open';
create index holds_in_order on zentra.holds (tenant, placed_at, intent);

grant select on zentra.holds to zentra_writer, zentra_tenant;
grant insert on zentra.holds to zentra_writer;
grant update (remaining, captured, status, ended_at) on zentra.holds to zentra_writer;

alter table zentra.holds enable row level security;
alter table zentra.holds force row level security;
create policy tenant_only on zentra.holds using (tenant = (select current_setting('zentra.tenant', true)))
    with check (tenant = (select current_setting('zentra.tenant', true)));
