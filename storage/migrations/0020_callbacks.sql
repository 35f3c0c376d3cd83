-- What a callback says, as its adapter read it, beside the bytes that said it: by rail, references and status it is known
-- a second time, and one that no intent has claimed can wait for its intent. Rows of before say nothing of it.
alter table callbacks
    add column status text,
    add column minor bigint,
    add column currency text,
    add column provider_reference text,
    add column reason text,
    add column trust text,
    add column peer text,           -- the address that the connection came from
    add column same_as text;        -- the event id of an earlier callback that said the same under another one

create index callbacks_said on callbacks (rail, reference, status, received_at);
