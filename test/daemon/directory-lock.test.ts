// Of several swarmds on one data root one gets the lock, also where they start at the same moment after a crash.

import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { DirectoryLock } from '../../src/daemon/directory-lock.ts'

const MODULE = new URL('../../src/daemon/directory-lock.js', import.meta.url).href

/** Says when it is there, tries when it is told to, says what came of it, and stays. */
const CONTENDER = `
  const { DirectoryLock } = await import('${MODULE}')
  process.stdin.once('data', async () => {
    const outcome = await DirectoryLock.take(process.argv[1]).then(() => 'taken', (error) => error.code)
    process.stdout.write(outcome)
  })
  process.stdout.write('there')
`

async function said(child: ChildProcess): Promise<string> {
  const [chunk] = (await once(child.stdout!, 'data')) as [Buffer]
  return chunk.toString()
}

t.test('of those that start together one gets the lock, whatever the dead have left', async (t) => {
  const root = mkdtempSync(join(tmpdir(), 'swarmd-lock-'))
  t.teardown(() => rmSync(root, { recursive: true }))
  const children = Array.from({ length: 5 }, () =>
    spawn(process.execPath, ['--input-type=module', '-e', CONTENDER, root], { stdio: ['pipe', 'pipe', 'inherit'] }),
  )
  t.teardown(() => {
    for (const child of children) child.kill('SIGKILL')
  })
  t.same(await Promise.all(children.map(said)), Array(5).fill('there'))
  // A process that has ended, one that had its number, and what is left of a start that was cut short.
  const dead = '999999 12345'
  writeFileSync(join(root, 'swarmd.lock'), `${dead}\n`)
  writeFileSync(join(root, 'swarmd.lock.after-999999-12345'), `${process.pid + 1_000_000} 1\n`)
  const outcomes = children.map(said)
  for (const child of children) child.stdin?.write('go')
  t.same((await Promise.all(outcomes)).sort(), [...Array(4).fill('ALREADY_RUNNING'), 'taken'])
  const holder = Number(readFileSync(join(root, 'swarmd.lock'), 'utf8').split(' ')[0])
  t.ok(children.some(({ pid }) => pid === holder))
  t.same(readdirSync(root), ['swarmd.lock'], 'nothing else is left')
  await t.rejects(DirectoryLock.take(root), { code: 'ALREADY_RUNNING', message: new RegExp(`process id ${holder}:`) })
})

t.test('a lock that was released, or is empty after a power loss, is free', async (t) => {
  const root = mkdtempSync(join(tmpdir(), 'swarmd-lock-'))
  t.teardown(() => rmSync(root, { recursive: true }))
  const first = await DirectoryLock.take(root)
  await first.release()
  t.same(readdirSync(root), [])
  writeFileSync(join(root, 'swarmd.lock'), '')
  await DirectoryLock.take(root)
  t.match(readFileSync(join(root, 'swarmd.lock'), 'utf8'), new RegExp(`^${process.pid} \\d+\n$`))
})
