-- One number that grows whenever somebody changes what the engine keeps in memory. Every tick compares it, so a change
-- is in force from the next commit on, without a message that could be lost.

create table configuration_version (
    single  boolean primary key default true check (single),
    version bigint not null
) with (fillfactor = 50);
insert into configuration_version (version) values (1);
grant select on configuration_version to zentra_writer;

-- Under the rights of its owner, so that a tenant's connection can change its endpoints without any on this table.
create function bump_configuration_version() returns trigger
    language plpgsql security definer set search_path = zentra
as $$
begin
    update zentra.configuration_version set version = version + 1;
    return null;
end $$;
revoke all on function bump_configuration_version() from public;

do $$
declare
    name text;
begin
    foreach name in array array['policies', 'corridors', 'endpoints', 'rails'] loop
        execute format('create trigger configuration_changed after insert or update or delete on zentra.%I'
                       ' for each statement execute function zentra.bump_configuration_version()', name);
    end loop;
end $$;

-- New accounts are looked up when they are first named; only what can change about a known one counts.
create trigger configuration_changed after update on accounts
    for each statement execute function bump_configuration_version();
