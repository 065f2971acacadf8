-- A job's end closes what is open of it without reading all of its units. One table a step: services at work take the locks of
-- two tables in an order of their own.
CREATE INDEX units_open ON units (job, first_item) WHERE state = 'open';
