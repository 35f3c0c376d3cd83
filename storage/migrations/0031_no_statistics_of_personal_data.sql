-- Statistics are copies of values: none are kept of what has to go with an erasure.
alter table personal_subjects alter column subject set statistics 0, alter column key set statistics 0;
alter table personal_openings alter column subject set statistics 0, alter column content set statistics 0;
