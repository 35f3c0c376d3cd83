-- A limit that somebody approves is a change of the account as any other: whoever carries it out writes its record.
grant insert on zentra.account_changes to zentra_writer;
