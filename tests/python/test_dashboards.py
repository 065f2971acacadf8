"""The dashboards of deploy/grafana, by the rules that a linter of dashboards would have."""

import itertools
import re
import unittest

import queries

UNITS = {"Bps", "bytes", "ops", "percentunit", "s", "short"}
WANTED = {"operations.json", "pools.json", "customers.json", "rabbitmq.json"}


class Dashboards(unittest.TestCase):
    def test_those_that_are_promised_are_there(self):
        self.assertEqual(set(queries.dashboards()), WANTED)

    def test_uids_and_titles_are_there_once(self):
        for key in ("uid", "title"):
            values = [dashboard[key] for dashboard in queries.dashboards().values()]
            self.assertEqual(len(values), len(set(values)))
            self.assertTrue(all(values))

    def test_they_can_be_imported_anywhere(self):
        for name, dashboard in queries.dashboards().items():
            with self.subTest(name):
                self.assertNotIn("__inputs", dashboard)
                self.assertNotIn("id", dashboard)
                self.assertRegex(dashboard["uid"], r"^offpeak-[a-z]+$")
                self.assertIn("offpeak", dashboard["tags"])
                self.assertTrue(dashboard["description"])

    def test_panels_have_an_id_a_title_and_a_description(self):
        for name, dashboard in queries.dashboards().items():
            ids = [panel["id"] for panel in dashboard["panels"]]
            self.assertEqual(len(ids), len(set(ids)), name)
            for panel in queries.panels(dashboard):
                with self.subTest(name, panel=panel["title"]):
                    self.assertTrue(panel["title"] and panel["description"])
                    self.assertTrue(panel["targets"])
                    refs = [target["refId"] for target in panel["targets"]]
                    self.assertEqual(len(refs), len(set(refs)))

    def test_units_are_set(self):
        for name, dashboard in queries.dashboards().items():
            for panel in queries.panels(dashboard):
                with self.subTest(name, panel=panel["title"]):
                    self.assertIn(panel["fieldConfig"]["defaults"]["unit"], UNITS)

    def test_panels_lie_on_the_grid_and_not_on_each_other(self):
        for name, dashboard in queries.dashboards().items():
            places = [(panel["title"], panel["gridPos"]) for panel in dashboard["panels"]]
            for title, place in places:
                self.assertGreaterEqual(place["x"], 0)
                self.assertLessEqual(place["x"] + place["w"], 24, (name, title))
            for (one, a), (two, b) in itertools.combinations(places, 2):
                beside = a["x"] + a["w"] <= b["x"] or b["x"] + b["w"] <= a["x"]
                apart = a["y"] + a["h"] <= b["y"] or b["y"] + b["h"] <= a["y"]
                self.assertTrue(beside or apart, f"{name}: {one!r} lies on {two!r}")

    def test_the_data_source_is_a_variable_everywhere(self):
        for name, dashboard in queries.dashboards().items():
            variables = {variable["name"]: variable for variable in dashboard["templating"]["list"]}
            self.assertEqual(variables["datasource"]["type"], "datasource", name)
            used = [panel["datasource"] for panel in queries.panels(dashboard)]
            used += [target["datasource"] for panel in queries.panels(dashboard) for target in panel["targets"]]
            used += [variable["datasource"] for variable in variables.values() if variable["type"] == "query"]
            for source in used:
                self.assertEqual(source, {"type": "prometheus", "uid": "$datasource"}, name)

    def test_variables_are_declared_and_used(self):
        for name, dashboard in queries.dashboards().items():
            declared = {variable["name"] for variable in dashboard["templating"]["list"]}
            texts = [query for where, query, _ in queries.targets() if where.startswith(name)]
            used = {word for text in texts for word in re.findall(r"\$(\w+)", text)}
            own = {word for word in used if not word.startswith("__")}
            self.assertEqual(own | {"datasource"}, declared, name)
            self.assertLessEqual({f"${word}" for word in used - own}, set(queries.INTERVALS), name)

    def test_variables_are_matched_as_patterns(self):
        for where, query, _ in queries.targets():
            for operator in re.findall(r'(=~?)\s*"\$\w+"', query):
                self.assertEqual(operator, "=~", where)

    def test_rates_are_over_the_rate_interval(self):
        for where, query, _ in queries.targets():
            for window in re.findall(r"\b(?:rate|irate)\([^[]*\[([^]]*)\]", query):
                self.assertEqual(window, "$__rate_interval", where)

    def test_queries_parse_and_use_what_there_is(self):
        recorded = queries.recorded()
        for where, query, _ in queries.targets():
            for name, _ in queries.selectors(queries.resolved(query)):
                with self.subTest(where, name=name):
                    if name.startswith("rabbitmq_"):
                        self.assertIn(name, queries.RABBITMQ)
                    elif ":" in name:
                        self.assertIn(name, recorded)
                    else:
                        self.assertRegex(name, r"^(offpeak_|process_|up$|ALERTS$)")

    def test_recorded_ratios_are_read_rather_than_computed_twice(self):
        used = {name for _, query, _ in queries.targets() for name, _ in queries.selectors(queries.resolved(query))}
        used |= {name for rule in queries.rules() for name, _ in queries.selectors(rule["expr"])}
        self.assertLessEqual(queries.recorded(), used, "a rule records what nobody reads")


if __name__ == "__main__":
    unittest.main()
