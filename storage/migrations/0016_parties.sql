-- Parties: the people and organisations behind accounts, what is known of them, and the lists they are held against.
--
-- Names stand in `parties` and in the lists and nowhere else: changes, cases and records of intents hold ids, digests
-- and scores.

create table parties (
    tenant          text not null references tenants,
    party_id        text not null,
    kind            text not null check (kind in ('person', 'organisation')),
    legal_name      text not null,
    aliases         text[] not null default '{}',
    born            date,                   -- or incorporated
    countries       text[] not null default '{}',
    identifiers     jsonb not null default '{}',
    kyc_state       text not null default 'not_started' check (kyc_state in ('not_started', 'awaiting_documents',
                        'pending_review', 'approved', 'denied', 'expired')),
    kyc_expires_at  timestamptz,
    screening_state text not null default 'not_screened' check (screening_state in ('not_screened', 'clear',
                        'possible_match', 'true_match', 'false_positive')),
    forced          boolean not null default false,     -- by a sandbox name: no list is asked
    screened_by     text,                   -- the digest of lists, algorithm and threshold that gave the state
    screened_at     timestamptz,
    version         integer not null default 1,
    created_by      text not null,
    created_at      timestamptz not null default now(),
    updated_at      timestamptz not null default now(),
    primary key (tenant, party_id)
);
create index parties_created on parties (tenant, created_at, party_id);
create index parties_screened on parties (tenant, screened_by) where not forced;
create index parties_kyc_expiry on parties (kyc_expires_at) where kyc_state = 'approved' and kyc_expires_at is not null;

-- What became of a party, by whom and why.
create table party_changes (
    tenant   text not null,
    party_id text not null,
    number   integer not null,              -- the version that the change made
    what     text not null check (what in ('created', 'amended', 'kyc', 'screening')),
    before   text,
    after    text not null,
    actor    text not null,
    reason   text not null,
    detail   jsonb not null default '{}',
    at       timestamptz not null default now(),
    primary key (tenant, party_id, number)
);

alter table accounts add column party text;
alter table accounts add foreign key (tenant, party) references parties (tenant, party_id);
create index accounts_party on accounts (tenant, party) where party is not null;

-- A name and an entry that a person found to be two people: so it stays until the name or the entry is another one.
create table cleared_pairs (
    tenant       text not null,
    name_digest  text not null,
    list         text not null,
    entry        text not null,
    entry_digest text not null,
    case_id      uuid,
    cleared_by   text not null,
    reason       text not null,
    at           timestamptz not null default now(),
    primary key (tenant, name_digest, list, entry_digest)
);

-- Lists are the installation's. A version is staged whole, then becomes the active one of its name; workers make it
-- ready in between.
create table screening_lists (
    name         text not null check (name ~ '^[a-z0-9][a-z0-9._-]{0,62}$'),
    version      integer not null,
    digest       text not null,
    format       text not null,
    source       text not null,             -- the name of the file
    fetched_at   timestamptz not null,      -- when its content was fetched from whoever publishes it
    loaded_at    timestamptz not null default now(),
    entries      integer not null,
    names        integer not null,
    status       text not null check (status in ('staged', 'active', 'retired')),
    activated_at timestamptz,
    primary key (name, version)
);
create unique index screening_lists_active on screening_lists (name) where status = 'active';

create table screening_entries (
    list    text not null,
    version integer not null,
    place   integer not null,
    body    bytea not null,                 -- a ListEntry as JSON
    primary key (list, version, place),
    foreign key (list, version) references screening_lists on delete cascade
);

-- In force with the next commit ------------------------------------------------------------------------------------

-- Only what decisions look at counts, and only of parties that an account names.
create function party_is_named(asked_tenant text, asked_party text) returns boolean
    language sql stable security definer set search_path = zentra
as $$
    select exists (select from zentra.accounts a where a.tenant = asked_tenant and a.party = asked_party)
$$;
alter function party_is_named(text, text) owner to zentra_writer;   -- under row security the owner might see no account
revoke all on function party_is_named(text, text) from public;
grant execute on function party_is_named(text, text) to current_user;

create function party_changed() returns trigger
    language plpgsql security definer set search_path = zentra
as $$
begin
    if zentra.party_is_named(new.tenant, new.party_id) then
        perform set_config('idle_in_transaction_session_timeout', '2s', true);
        perform from zentra.leases order by partition for share;
        update zentra.configuration_version set version = version + 1;
    end if;
    return null;
end $$;
revoke all on function party_changed() from public;
create trigger configuration_changed after update of kyc_state, screening_state on parties
    for each row when (old.kyc_state <> new.kyc_state or old.screening_state <> new.screening_state)
    execute function party_changed();
create trigger configuration_changed after insert or update or delete on cleared_pairs
    for each statement execute function bump_configuration_version();
create trigger configuration_changed after update on screening_lists
    for each statement execute function bump_configuration_version();

-- Rights -----------------------------------------------------------------------------------------------------------

grant select on parties, party_changes, cleared_pairs, screening_lists, screening_entries to zentra_writer;
grant update (kyc_state, screening_state, screened_by, screened_at, version, updated_at) on parties to zentra_writer;
grant insert on party_changes to zentra_writer;

grant select on parties, party_changes, cleared_pairs, screening_lists to zentra_tenant;
grant insert, update on parties to zentra_tenant;
grant insert on party_changes, cleared_pairs, cases, commands, command_outcomes to zentra_tenant;
grant update (status, operator, resolution, resolved_at) on cases to zentra_tenant;

do $$
declare
    name text;
begin
    foreach name in array array['parties', 'party_changes', 'cleared_pairs'] loop
        execute format('alter table zentra.%I enable row level security', name);
        execute format('alter table zentra.%I force row level security', name);
        execute format('create policy tenant_only on zentra.%I using (tenant = (select current_setting(''zentra.tenant'', true)))'
                       ' with check (tenant = (select current_setting(''zentra.tenant'', true)))', name);
    end loop;
end $$;
