// Writes the tables of docs/compose.md anew:
//
//   npx tsc -p tsconfig.json && node build/test/cli/compose-docs.js

import { readFileSync, writeFileSync } from 'node:fs'
import { withTables } from './compose-table.ts'

const file = 'docs/compose.md'
writeFileSync(file, withTables(readFileSync(file, 'utf8')))
