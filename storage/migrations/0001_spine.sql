-- The tables of the runtime, the two service roles and the row security between tenants.
--
-- Immutable tables (intents, transitions, postings, callbacks, log_*) are only ever inserted into: nobody holds UPDATE or
-- DELETE on them. Every row that concerns a tenant carries the tenant. Internal references are bigint or uuid; what people
-- see is text.

create schema if not exists zentra;
set local search_path = zentra;

-- What is fixed for the life of an installation: changing the partition count would re-key every actor.
create table installation (
    single     boolean primary key default true check (single),
    partitions integer not null check (partitions between 1 and 1024),
    created_at timestamptz not null default now()
);

-- People and their keys ------------------------------------------------------------------------------------------

create table tenants (
    id         text primary key check (id ~ '^[a-z][a-z0-9-]{1,30}$'),
    name       text not null,
    created_at timestamptz not null default now()
);

create table principals (
    tenant     text not null references tenants,
    id         text not null check (id ~ '^[a-z0-9][a-z0-9._-]{0,62}$'),
    name       text not null,
    role       text not null check (role in ('developer', 'operator', 'support', 'finance', 'auditor', 'admin')),
    created_at timestamptz not null default now(),
    primary key (tenant, id)
);

create table api_keys (
    id          text primary key,
    tenant      text not null,
    principal   text not null,
    secret_hash bytea not null,
    created_at  timestamptz not null default now(),
    expires_at  timestamptz,
    revoked_at  timestamptz,
    foreign key (tenant, principal) references principals
);

-- The ledger -----------------------------------------------------------------------------------------------------

create table accounts (
    id              bigint generated always as identity primary key,
    tenant          text not null references tenants,
    account_id      text not null,
    owner           text not null,
    type            text not null check (type in ('operating', 'customer', 'reserved', 'settlement', 'merchant', 'payout',
                                                  'fee', 'suspense', 'liquidity')),
    currency        text not null check (currency ~ '^[A-Z]{3}$'),
    normal_side     text not null check (normal_side in ('debit', 'credit')),
    guarded         boolean not null,   -- has a floor; system accounts have none
    overdraft_limit bigint not null default 0 check (overdraft_limit >= 0),
    status          text not null default 'open' check (status in ('open', 'frozen', 'closed')),
    created_by      text not null,
    created_at      timestamptz not null default now(),
    unique (tenant, account_id)
);

-- Four counters per account. A guarded account has stripe 0 alone; an account without a floor has
-- stripes from 1, as many as there were writers.
create table balances (
    account         bigint not null references accounts,
    stripe          smallint not null,
    tenant          text not null,
    debits_pending  bigint not null default 0,
    credits_pending bigint not null default 0,
    debits_posted   bigint not null default 0,
    credits_posted  bigint not null default 0,
    primary key (account, stripe),
    -- what one writer reserved another may release, so a single stripe of a system account may stand below zero
    check (stripe <> 0 or least(debits_pending, credits_pending, debits_posted, credits_posted) >= 0)
) with (fillfactor = 50);

-- One row moves one amount from its debit to its credit account: `pending` and `posted` are its signed effect on each
-- layer. reserve (+a, 0); release (-a, 0); post (-a, +a); book (0, +a).
create table postings (
    intent   uuid not null,
    ordinal  integer not null,
    tenant   text not null,
    kind     text not null,
    debit    bigint not null,
    credit   bigint not null,
    currency text not null,
    pending  bigint not null,
    posted   bigint not null check (posted >= 0),
    at       timestamptz not null,
    hash     bytea not null,
    primary key (intent, ordinal),
    check (debit <> credit),
    check (pending <> 0 or posted <> 0)
);
create index postings_debit on postings (debit, at);
create index postings_credit on postings (credit, at);

-- Intents --------------------------------------------------------------------------------------------------------

create table intents (
    id         uuid primary key,
    tenant     text not null,
    intent_id  text not null,
    digest     bytea not null,
    command    bytea not null,          -- canonical JSON of the command
    principal  text not null,
    role       text not null,
    key        text not null,
    trace      text not null,
    created_at timestamptz not null,
    unique (tenant, intent_id)
);

create table idempotency (
    tenant     text not null,
    key        text not null,
    digest     bytea not null,
    subject    text not null,           -- what the key made: 'intent/<uuid>', 'account/<id>', 'command/<uuid>', ...
    status     smallint not null,
    answer     bytea not null,
    request_id text not null,
    first_seen timestamptz not null default now(),
    primary key (tenant, key)
);

create table transitions (
    intent   uuid not null,
    sequence integer not null,
    tenant   text not null,
    at       timestamptz not null,
    state    text not null,
    event    text not null,
    record   bytea not null,            -- canonical JSON; the chain is over exactly these bytes
    hash     bytea not null,
    primary key (intent, sequence)
);

-- Commands on an existing object: immutable facts, answered through `outcome` by the owner of the object.
create table commands (
    id         uuid primary key,
    tenant     text not null,
    kind       text not null,           -- cancel, reverse, decide_review, resolve_case, replay_delivery
    subject    text not null,           -- text id of the object it is for
    principal  text not null,
    role       text not null,
    body       bytea not null,
    created_at timestamptz not null default now()
);

create table command_outcomes (
    command    uuid primary key,
    tenant     text not null,
    accepted   boolean not null,
    code       text not null,
    detail     jsonb not null default '{}',
    decided_at timestamptz not null
);

-- Rules, people's work, refusals -----------------------------------------------------------------------------------

create table policies (
    tenant     text not null references tenants,
    version    integer not null,
    rules      jsonb not null,
    created_by text not null,
    created_at timestamptz not null default now(),
    primary key (tenant, version)
);

create table velocity (
    tenant   text not null,
    counter  text not null,             -- what is counted, e.g. 'account/<account_id>'
    day      date not null,             -- UTC day of the window
    currency text not null,
    count    bigint not null default 0 check (count >= 0),
    minor    bigint not null default 0 check (minor >= 0),
    primary key (tenant, counter, day, currency)
) with (fillfactor = 50);

create table reviews (
    id          uuid primary key,       -- the intent's uuid: one review is open per intent at a time
    round       integer not null default 1,
    tenant      text not null,
    intent_id   text not null,
    created_by  text not null,
    rules       jsonb not null,
    version     integer not null,
    assigned_to text,
    status      text not null check (status in ('open', 'approved', 'rejected', 'cancelled', 'expired')),
    opened_at   timestamptz not null,
    expires_at  timestamptz not null,
    decided_by  text,
    decided_at  timestamptz,
    reason      text
);
create index reviews_open on reviews (tenant, opened_at) where status = 'open';

-- Unique by review and round: of two deciders the second insert fails.
create table review_decisions (
    review     uuid not null,
    round      integer not null,
    tenant     text not null,
    verdict    text not null check (verdict in ('approved', 'rejected')),
    principal  text not null,
    reason     text not null,
    decided_at timestamptz not null default now(),
    primary key (review, round)
);

create table cases (
    id          uuid primary key,
    tenant      text not null,
    intent      uuid,
    intent_id   text,
    kind        text not null,
    status      text not null check (status in ('open', 'resolved')),
    detail      jsonb not null,
    opened_at   timestamptz not null,
    deadline    timestamptz not null,
    operator    text,
    resolution  jsonb,
    resolved_at timestamptz
);
create index cases_open on cases (tenant, opened_at) where status = 'open';

create table denials (
    tenant     text not null,           -- of the caller; '-' where the caller is unknown
    actor      text not null,
    role       text not null,
    action     text not null,           -- method and route template, never an id
    reason     text not null,
    minute     timestamptz not null,
    count      integer not null default 1,
    first_at   timestamptz not null,
    last_at    timestamptz not null,
    request_id text not null,
    primary key (tenant, actor, action, reason, minute)
);

-- Corridors and rails ------------------------------------------------------------------------------------------------

create table rails (
    name     text primary key,
    settings jsonb not null
);

create table corridors (
    tenant    text not null references tenants,
    name      text not null,
    country   text,                     -- null: any
    currency  text not null,
    kind      text not null,
    minor_min bigint not null default 1,
    minor_max bigint,
    rails     text[] not null,
    primary key (tenant, name)
);

create table callbacks (
    rail        text not null,
    event_id    text not null,
    reference   text not null,
    tenant      text,                   -- known once the intent is
    intent      uuid,
    body        bytea not null,
    headers     jsonb not null,
    digest      bytea not null,
    received_at timestamptz not null default now(),
    primary key (rail, event_id)
);
create index callbacks_intent on callbacks (intent);

-- How often the same callback came again after it was stored.
create table callback_repeats (
    rail     text not null,
    event_id text not null,
    count    integer not null,
    last_at  timestamptz not null,
    primary key (rail, event_id)
);

-- Webhooks -----------------------------------------------------------------------------------------------------------

create table endpoints (
    tenant     text not null references tenants,
    id         text not null,
    url        text not null,
    events     text[] not null,
    secrets    bytea[] not null check (cardinality(secrets) > 0),   -- sealed with the installation's key
    status     text not null default 'enabled' check (status in ('enabled', 'disabled')),
    created_by text not null,
    created_at timestamptz not null default now(),
    primary key (tenant, id)
);

create table deliveries (
    id         uuid primary key,
    tenant     text not null,
    endpoint   text not null,
    intent     uuid not null,
    sequence   integer not null,        -- of the transition it tells of
    event      text not null,
    body       bytea not null,
    created_at timestamptz not null
);
create index deliveries_endpoint on deliveries (tenant, endpoint, created_at);
create index deliveries_intent on deliveries (intent);

-- The mutable half of a delivery, so that the body above can stay immutable.
create table delivery_states (
    delivery   uuid primary key,
    tenant     text not null,
    endpoint   text not null,
    status     text not null check (status in ('pending', 'delivering', 'retrying', 'delivered', 'exhausted')),
    attempts   integer not null,
    tries      integer not null,        -- since it was made or last replayed
    trigger    text not null,           -- automatic, replay
    next_at    timestamptz,
    updated_at timestamptz not null
) with (fillfactor = 70);
create index delivery_states_open on delivery_states (tenant, endpoint) where status in ('pending', 'delivering', 'retrying');

create table delivery_attempts (
    delivery    uuid not null,
    number      integer not null,
    tenant      text not null,
    trigger     text not null,          -- automatic, replay
    at          timestamptz not null,
    status_code integer,
    error       text,
    latency_ms  integer not null,
    excerpt     text not null,
    primary key (delivery, number)
);

-- Evidence -----------------------------------------------------------------------------------------------------------

create table log_leaves (
    tenant text not null,
    index  bigint not null,
    intent uuid not null,
    data   bytea not null,
    hash   bytea not null,
    primary key (tenant, index)
);
create index log_leaves_intent on log_leaves (intent);
create unique index log_leaves_hash on log_leaves (hash);   -- a packet is logged once

create table log_tiles (
    tenant text not null,
    level  smallint not null,
    index  bigint not null,
    hash   bytea not null,
    primary key (tenant, level, index)
);

create table log_heads (
    tenant    text not null,
    size      bigint not null,
    root      bytea not null,
    frontier  bytea[] not null,
    at        timestamptz not null,
    key_id    text not null,
    signature bytea not null,
    primary key (tenant, size)
);

-- The engine ---------------------------------------------------------------------------------------------------------

create table members (
    worker  text primary key,
    seen_at timestamptz not null
);

create table leases (
    partition      integer primary key,
    epoch          bigint not null default 0,
    owner          text,
    version        bigint not null default 0,   -- of the last tick that wrote here
    sequence       bigint not null default 0,   -- consumed up to, in ZC
    message_id     text not null default ''     -- Msg-Id of that message
) with (fillfactor = 50);

create table outbox (
    id         uuid primary key,
    partition  integer not null,
    subject    text not null,
    body       bytea not null,
    created_at timestamptz not null default now(),
    sent_at    timestamptz
) with (fillfactor = 70);
create index outbox_unsent on outbox (partition, created_at) where sent_at is null;
create index outbox_created on outbox (created_at);

create table timers (
    kind      text not null,            -- actor kind: intent, delivery, review, case
    key       uuid not null,
    name      text not null,            -- state, seal, attempt, ...
    partition integer not null,
    tenant    text not null,
    due_at    timestamptz not null,
    primary key (kind, key, name)
);
create index timers_due on timers (partition, due_at);

-- Roles --------------------------------------------------------------------------------------------------------------

do $$
begin
    if not exists (select from pg_roles where rolname = 'zentra_writer') then
        create role zentra_writer login nosuperuser nocreatedb nocreaterole bypassrls;
    end if;
    if not exists (select from pg_roles where rolname = 'zentra_tenant') then
        create role zentra_tenant login nosuperuser nocreatedb nocreaterole nobypassrls;
    end if;
end $$;

grant usage on schema zentra to zentra_writer, zentra_tenant;

-- Batch writers: what the engine and the intake need, and no update of what is immutable.
grant select on all tables in schema zentra to zentra_writer;
grant insert on postings, intents, transitions, commands, command_outcomes, callbacks, deliveries, delivery_attempts,
    log_leaves, log_tiles, log_heads, review_decisions to zentra_writer;
grant insert, update on balances, idempotency, velocity, reviews, cases, denials, callback_repeats, delivery_states,
    leases, members, outbox, timers, endpoints to zentra_writer;
grant update (tenant, intent) on callbacks to zentra_writer;
grant delete on outbox, timers, members, idempotency to zentra_writer;

-- Tenant-serving connections: reads, and the tenant's own configuration.
grant select on tenants, principals, accounts, balances, postings, intents, idempotency, transitions, commands,
    command_outcomes, policies, velocity, reviews, review_decisions, cases, denials, corridors, callbacks, endpoints,
    deliveries, delivery_states, delivery_attempts, log_leaves, log_tiles, log_heads to zentra_tenant;
grant insert on accounts, balances, idempotency, endpoints to zentra_tenant;
grant update (status) on accounts to zentra_tenant;
grant update (url, events, secrets, status) on endpoints to zentra_tenant;

do $$
declare
    name text;
begin
    foreach name in array array['principals', 'api_keys', 'accounts', 'balances', 'postings', 'intents', 'idempotency',
        'transitions', 'commands', 'command_outcomes', 'policies', 'velocity', 'reviews', 'review_decisions', 'cases',
        'denials', 'corridors', 'callbacks', 'endpoints', 'deliveries', 'delivery_states', 'delivery_attempts',
        'log_leaves', 'log_tiles', 'log_heads'] loop
        execute format('alter table zentra.%I enable row level security', name);
        execute format('alter table zentra.%I force row level security', name);
        execute format('create policy tenant_only on zentra.%I using (tenant = (select current_setting(''zentra.tenant'', true)))'
                       ' with check (tenant = (select current_setting(''zentra.tenant'', true)))', name);
    end loop;
    alter table zentra.tenants enable row level security;
    alter table zentra.tenants force row level security;
    create policy tenant_only on zentra.tenants using (id = (select current_setting('zentra.tenant', true)));
end $$;

-- The one question that has to be asked before the tenant is known: whose key is this? It answers with the row of that
-- key id alone; the caller compares the secret's hash.
create function authenticate(key_id text)
    returns table (tenant text, principal text, role text, secret_hash bytea, expires_at timestamptz, revoked_at timestamptz)
    language sql stable security definer set search_path = zentra
as $$
    select k.tenant, k.principal, p.role, k.secret_hash, k.expires_at, k.revoked_at
    from zentra.api_keys k join zentra.principals p on p.tenant = k.tenant and p.id = k.principal
    where k.id = key_id
$$;
alter function authenticate(text) owner to zentra_writer;   -- reads under its rights, whoever migrates
revoke all on function authenticate(text) from public;
grant execute on function authenticate(text) to zentra_tenant, zentra_writer;
