-- Personal data beside the evidence: what opens commitments, and can be erased.

create table personal_subjects (
    tenant  text not null references tenants,
    subject text not null,
    key     bytea not null check (length(key) = 32),    -- random: salts are made from it
    primary key (tenant, subject)
);

-- Erased openings leave their digest, which says nothing by itself.
create table personal_openings (
    tenant     text not null references tenants,
    digest     bytea not null check (length(digest) = 32),
    subject    text,
    content    bytea,
    created_at timestamptz not null default now(),
    erasure    uuid,
    primary key (tenant, digest),
    check ((content is null) = (subject is null) and (content is null) = (erasure is not null))
);
create index personal_openings_of on personal_openings (tenant, subject) where subject is not null;

-- Who erased what, when and why: an envelope that the evidence key has signed. Kept for ever.
create table evidence_erasures (
    id       uuid primary key,
    tenant   text not null references tenants,
    actor    text not null,
    at       timestamptz not null,
    reason   text not null,
    erased   integer not null,
    envelope bytea not null
);
create index evidence_erasures_in_order on evidence_erasures (tenant, at, id);

-- Only the owner erases.
grant select, insert, update (key) on personal_subjects to zentra_writer;
grant insert on personal_openings to zentra_writer;
grant select on personal_openings, evidence_erasures to zentra_writer, zentra_tenant;
do $$
declare
    name text;
begin
    foreach name in array array['personal_subjects', 'personal_openings', 'evidence_erasures'] loop
        execute format('alter table zentra.%I enable row level security', name);
        execute format('alter table zentra.%I force row level security', name);
        execute format('create policy tenant_only on zentra.%I using (tenant = (select current_setting(''zentra.tenant'', true)))'
                       ' with check (tenant = (select current_setting(''zentra.tenant'', true)))', name);
    end loop;
end $$;
