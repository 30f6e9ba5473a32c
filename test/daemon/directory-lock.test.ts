// Of several swarmds on one data root one gets the lock, also where they start at the same moment after a crash.

import { type ChildProcess, spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { mkdtempSync, readdirSync, rmSync, symlinkSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t, { type Test } from 'tap'
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

/** Binds the lock's name, listens or does not, and accepts nobody. */
async function squatter(t: Test, root: string, listens: boolean) {
  const name = `swarmd-of-${createHash('sha256').update(root).digest('hex').slice(0, 32)}`
  const listen = listens ? 'listen(S, 5) or die;' : ''
  const program = `use Socket; $| = 1; socket(S, AF_UNIX, SOCK_STREAM, 0) or die; bind(S, pack('Sa108', AF_UNIX, qq(\\0${name}))) or die; ${listen} print "there"; sleep 60`
  const child = spawn('perl', ['-e', program], { stdio: ['ignore', 'pipe', 'inherit'] })
  t.teardown(() => child.kill('SIGKILL'))
  t.equal(await said(child), 'there')
  return child
}

t.test('a holder that does not say who it is is no reason to wait, or to try for ever', async (t) => {
  const root = mkdtempSync(join(tmpdir(), 'swarmd-lock-'))
  t.teardown(() => rmSync(root, { recursive: true }))
  const message = `${root} is in use by a process that does not say who it is: stop it first, or give this swarmd its own --data-root`
  for (const listens of [false, true]) {
    const child = await squatter(t, root, listens)
    await t.rejects(lockDirectory(root), { code: 'ALREADY_RUNNING', message })
    child.kill('SIGKILL')
    await once(child, 'exit')
  }
  const dying = await squatter(t, root, true)
  const taken = lockDirectory(root)
  setTimeout(() => dying.kill('SIGKILL'), 100)
  ;(await taken).release()
})
