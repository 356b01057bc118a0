"""Write CONFORMANCE.md anew from the list of differences."""

from requestor.mock_golem.conformance.listed import TABLE_FILE, load_listed, table

TABLE_FILE.write_text(table(load_listed()), encoding="utf-8")
