"""Files that strangers might send: made here (`corpus`), and sent (`test_corpus`, `test_access`)."""
