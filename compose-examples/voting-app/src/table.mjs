// Whoever comes to the database first makes the table.
export const VOTES = `CREATE TABLE IF NOT EXISTS votes (
  voter text PRIMARY KEY,
  choice text NOT NULL,
  at bigint NOT NULL
)`
