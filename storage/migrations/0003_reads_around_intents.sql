-- How often a callback was repeated belongs to whoever may see the callback; the row itself knows no tenant.
grant select on callback_repeats to zentra_tenant;
alter table callback_repeats enable row level security;
alter table callback_repeats force row level security;
create policy tenant_only on callback_repeats for select using (
    exists (select from callbacks c where c.rail = callback_repeats.rail and c.event_id = callback_repeats.event_id)
);

create index cases_intent on cases (intent) where intent is not null;
