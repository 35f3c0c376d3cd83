-- What was exported of the evidence, signatures that were given over what was exported, and the keys behind them.

-- The public half of every key that a worker has signed heads with.
create table evidence_keys (
    key_id     text primary key,
    public_key bytea not null check (length(public_key) = 32),
    since      timestamptz not null default now()
);
grant select, insert on evidence_keys to zentra_writer;
grant select on evidence_keys to zentra_tenant;

-- What was signed once is not signed again: the same packet comes out with the same signature after any change of keys.
create table evidence_signatures (
    tenant    text not null references tenants,
    digest    bytea not null,               -- SHA-256 of what was signed, which is the DSSE encoding of type and payload
    key_id    text not null,
    signature text not null,                -- base64
    at        timestamptz not null default now(),
    primary key (tenant, digest)
);

-- Who took which range out of the log, and when. Kept for ever, and part of later exports.
create table evidence_exports (
    id         uuid primary key default gen_random_uuid(),
    tenant     text not null references tenants,
    actor      text not null,
    role       text not null,
    at         timestamptz not null default now(),
    since      timestamptz,
    until      timestamptz,
    types      text[],                      -- null: everything
    first_leaf bigint not null,
    log_size   bigint not null,
    entries    bigint not null,
    manifest   bytea not null               -- SHA-256 of the manifest that names every file
);
create index evidence_exports_in_order on evidence_exports (tenant, at, id);

grant select, insert on evidence_signatures, evidence_exports to zentra_writer, zentra_tenant;
do $$
declare
    name text;
begin
    foreach name in array array['evidence_signatures', 'evidence_exports'] loop
        execute format('alter table zentra.%I enable row level security', name);
        execute format('alter table zentra.%I force row level security', name);
        execute format('create policy tenant_only on zentra.%I using (tenant = (select current_setting(''zentra.tenant'', true)))'
                       ' with check (tenant = (select current_setting(''zentra.tenant'', true)))', name);
    end loop;
end $$;
