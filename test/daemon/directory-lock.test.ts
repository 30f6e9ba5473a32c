// Of several swarmds on one data root one gets the lock, also where they start at the same moment after a crash.

import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readdirSync, rmSync, symlinkSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { lockDirectory } from '../../src/daemon/directory-lock.ts'

const MODULE = new URL('../../src/daemon/directory-lock.js', import.meta.url).href

/** Says when it is there, tries when it is told to, says what came of it, and stays. */
const CONTENDER = `
  const { lockDirectory } = await import('${MODULE}')
  process.stdin.once('data', async () => {
    const outcome = await lockDirectory(process.argv[1]).then(() => 'taken', (error) => error.code)
    process.stdout.write(outcome)
  })
  process.stdout.write('there')
`

async function said(child: ChildProcess): Promise<string> {
  const [chunk] = (await once(child.stdout!, 'data')) as [Buffer]
  return chunk.toString()
}

t.test('of those that start together one gets the lock, until its process ends', async (t) => {
  const root = mkdtempSync(join(tmpdir(), 'swarmd-lock-'))
  t.teardown(() => rmSync(root, { recursive: true }))
  const children = Array.from({ length: 5 }, () =>
    spawn(process.execPath, ['--input-type=module', '-e', CONTENDER, root], { stdio: ['pipe', 'pipe', 'inherit'] }),
  )
  t.teardown(() => {
    for (const child of children) child.kill('SIGKILL')
  })
  t.same(await Promise.all(children.map(said)), Array(5).fill('there'))
  const outcomes = children.map(said)
  for (const child of children) child.stdin?.write('go')
  const told = await Promise.all(outcomes)
  t.same(told.toSorted(), [...Array<string>(4).fill('ALREADY_RUNNING'), 'taken'])
  const holder = children[told.indexOf('taken')]!
  await t.rejects(lockDirectory(root), {
    code: 'ALREADY_RUNNING',
    message: `${root} is in use by swarmd with process id ${holder.pid}: stop it first, or give this one its own --data-root`,
  })
  const alias = `${root}-alias`
  symlinkSync(root, alias)
  t.teardown(() => rmSync(alias))
  await t.rejects(lockDirectory(alias), { code: 'ALREADY_RUNNING' }, 'by whatever name')
  t.same(readdirSync(root), [], 'nothing has to be written: the disk may be full')
  holder.kill('SIGKILL')
  await once(holder, 'exit')
  const lock = await lockDirectory(root)
  lock.release()
})

t.test('a lock that was released is free, and other data roots have their own', async (t) => {
  const root = mkdtempSync(join(tmpdir(), 'swarmd-lock-'))
  const other = mkdtempSync(join(tmpdir(), 'swarmd-lock-'))
  t.teardown(() => {
    for (const each of [root, other]) rmSync(each, { recursive: true })
  })
  const first = await lockDirectory(root)
  const beside = await lockDirectory(other)
  first.release()
  const again = await lockDirectory(root)
  again.release()
  beside.release()
})
