import glob
from tests.cli.test_answering import *
def test_debug(reader):
    r = reader("ask", "--json", "At what wind speed does the dome have to be closed?")
    print(r.out, r.err)
    for f in glob.glob("/tmp/ragsvc-cli-*/logs/api.log"):
        print(f, open(f).read()[-9000:])
    assert 0
