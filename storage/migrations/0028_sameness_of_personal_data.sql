-- Whether a repeated request has the personal data of the first can be told when that is erased: by a keyed digest of it
-- under the installation's secret, with a nonce of its own. It says nothing to who has the database alone, and links no
-- two intents.
create table zentra.personal_proofs (
    intent uuid primary key,
    tenant text not null references zentra.tenants,
    proof  bytea not null check (length(proof) = 48)    -- nonce (16), HMAC-SHA256 (32)
);
grant select, insert on zentra.personal_proofs to zentra_writer;
alter table zentra.personal_proofs enable row level security;
alter table zentra.personal_proofs force row level security;
create policy tenant_only on zentra.personal_proofs using (tenant = (select current_setting('zentra.tenant', true)))
    with check (tenant = (select current_setting('zentra.tenant', true)));
