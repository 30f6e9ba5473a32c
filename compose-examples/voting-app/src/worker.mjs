// Moves votes from Redis to PostgreSQL. A vote leaves Redis only when the database has it: on its way it lies in a list
// of this worker's own, and what a worker that died has left there is taken up first.
import { readFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { Postgres } from './postgres.mjs'
import { Redis } from './redis.mjs'
import { VOTES } from './table.mjs'

const WAIT_S = 5
const RETRY_MS = 500
const own = `votes:taken:${process.env.SLOT || '1'}`

const redis = new Redis({ host: process.env.REDIS_HOST || 'redis' })
const db = new Postgres({
  host: process.env.DB_HOST || 'db',
  password: readFileSync(process.env.DB_PASSWORD_FILE || '/run/secrets/db-password', 'utf8').trim(),
})

for (const signal of ['SIGTERM', 'SIGINT']) process.once(signal, () => process.exit(0))

for (let told = ''; ; ) {
  try {
    await db.query(VOTES)
    for (const left of await redis.command(['LRANGE', own, 0, -1])) await store(left)
    console.log('moving votes')
    told = ''
    for (;;) {
      const vote = await redis.command(['BLMOVE', 'votes', own, 'RIGHT', 'LEFT', WAIT_S], { blockMs: WAIT_S * 1_000 })
      if (vote !== null) await store(vote)
    }
  } catch (error) {
    // others are still starting, or move to another machine
    if (error.message !== told) console.error(`waiting: ${error.message}`)
    told = error.message
    await sleep(RETRY_MS)
  }
}

async function store(line) {
  const { voter, choice, at } = JSON.parse(line)
  await db.query(
    `INSERT INTO votes (voter, choice, at) VALUES ($1, $2, $3)
     ON CONFLICT (voter) DO UPDATE SET choice = excluded.choice, at = excluded.at WHERE votes.at <= excluded.at`,
    [voter, choice, at],
  )
  await db.query('NOTIFY votes')
  await redis.command(['LREM', own, 1, line])
}
