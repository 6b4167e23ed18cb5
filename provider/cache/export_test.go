package cache

// OpenJournalIn opens a journal in any folder: the tests' own need be no tmpfs.
var OpenJournalIn = openJournal
