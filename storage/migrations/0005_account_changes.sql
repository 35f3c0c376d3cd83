-- Whoever changes an account waits for the commits that are under way, and keeps new ones waiting until its own is
-- over: when a freeze has been answered, no reserve that did not know of it can still be committed.
--
-- A tick holds its lease rows until it has ended, and reads the version once more when it has them. So it either ended
-- before the change took effect, or sees the version that came with it. The lease rows come before the version, as in a
-- tick; and a session that changes accounts and then sleeps is ended before it stalls the engine.

create function account_changed() returns trigger
    language plpgsql security definer set search_path = zentra
as $$
begin
    perform set_config('idle_in_transaction_session_timeout', '2s', true);
    perform from zentra.leases order by partition for share;
    update zentra.configuration_version set version = version + 1;
    return null;
end $$;
revoke all on function account_changed() from public;

drop trigger configuration_changed on accounts;
create trigger configuration_changed after update on accounts
    for each statement execute function account_changed();
