-- A job's end closes its lost replicas without reading all of its replicas. Due and sent ones have indices already.
CREATE INDEX replicas_lost ON replicas (job, not_before) WHERE state = 'lost';
