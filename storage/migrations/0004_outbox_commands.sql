-- Command frames that were sent and are not consumed. Most rows are consumed before they are marked and never come here;
-- what stays for more than a moment was lost by the stream.
create index outbox_commands on outbox (sent_at) where subject like 'zc.%' and sent_at is not null;
