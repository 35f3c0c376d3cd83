-- The history of evidence keys, and which worker can sign with what.

-- Entries are envelopes that the keys themselves have signed: rows are added and never changed.
create table evidence_key_entries (
    number     integer primary key check (number > 0),
    key_id     text not null unique,
    public_key bytea not null check (length(public_key) = 32),
    since      timestamptz not null,
    envelope   bytea not null
);
grant select, insert on evidence_key_entries to zentra_writer;
grant select on evidence_key_entries to zentra_tenant;

-- Workers pick up who signs from when on with everything else that is set up.
create trigger configuration_changed after insert on evidence_key_entries
    for each statement execute function bump_configuration_version();

-- Workers that were here lately, and the keys that each of them holds.
create table evidence_signers (
    worker  text primary key,
    keys    text[] not null,
    seen_at timestamptz not null default now()
);
grant select, insert, update, delete on evidence_signers to zentra_writer;
