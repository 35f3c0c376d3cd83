-- Fee schedules: what a tenant charges, in versions that are never changed; the last one is in force.

create table fee_schedules (
    tenant     text not null references tenants,
    version    integer not null,
    rules      jsonb not null,
    created_by text not null,
    created_at timestamptz not null default now(),
    primary key (tenant, version)
);
grant select on fee_schedules to zentra_writer;
grant select, insert on fee_schedules to zentra_tenant;

alter table fee_schedules enable row level security;
alter table fee_schedules force row level security;
create policy tenant_only on fee_schedules using (tenant = (select current_setting('zentra.tenant', true)))
    with check (tenant = (select current_setting('zentra.tenant', true)));

create trigger configuration_changed after insert or update or delete on fee_schedules
    for each statement execute function bump_configuration_version();
