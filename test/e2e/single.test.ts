// One machine that has Docker: from nothing to an answer, through a restart, and back to nothing.

import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { projectRoot } from '../../lab/layout.ts'
import { must } from '../../lab/run.ts'
import { bareLab } from './support/fresh-cluster.ts'
import { waitFor } from './support/wait-for.ts'

const WAIT_MS = 120_000
/** As compose-examples/hello.yml wants one: it answers HTTP on port 80. */
const IMAGE = 'hello:on-port-80'
const lab = await bareLab(t)
const host = lab.host('n1')

const engine = async (...args: string[]): Promise<string> => {
  const { code, stdout, stderr } = await host.docker(args)
  if (code !== 0) throw new Error(`docker ${args.join(' ')}: ${code} ${stderr}`)
  return stdout.trim()
}
const swarmctl = async (...args: string[]): Promise<string> => {
  const env = { ...host.clientEnv('swarmd'), HELLO_IMAGE: IMAGE }
  const { code, stdout, stderr } = await host.swarmctl(args, { env })
  if (code !== 0) throw new Error(`swarmctl ${args.join(' ')}: ${code} ${stderr}`)
  return stdout.trim()
}
const answer = () =>
  waitFor(
    'the service answers',
    async () => (await lab.client(['curl', '-s', '-m', '2', `http://${host.address}:8080/`])).stdout,
    WAIT_MS,
    host.paths.swarmdSocket,
  )
const containers = () =>
  engine('ps', '-a', '--no-trunc', '--format', '{{.ID}}', '--filter', 'label=com.docker.swarm.task.id')

const runtimeFiles = async () =>
  (await must(host.execArgv(['find', '/run/swarmd', '-mindepth', '1']))).split('\n').toSorted()
const filesBefore = await runtimeFiles()

const bare = await engine('create', 'hello:1')
await engine('commit', '--change', 'ENV PORT=80', bare, IMAGE)
await engine('rm', bare)
t.teardown(() => engine('rmi', '-f', IMAGE))

t.test('two commands, and curl answers', async (t) => {
  t.match(await swarmctl('swarm', 'init'), /^Swarm initialized: current node \(\w{25}\) is now a manager\./)
  const shown = await swarmctl('stack', 'deploy', '-c', join(projectRoot, 'compose-examples/hello.yml'), 'hello')
  t.match(shown, /Creating service hello_web/)
  t.match(await answer(), /^hello version=1 /)
})

t.test('a restart of swarmd touches no container and forgets nothing', async (t) => {
  const before = await containers()
  const node = await swarmctl('node', 'ls', '-q')
  await host.restartSwarmd()
  t.match(await answer(), /^hello version=1 /)
  t.equal(await swarmctl('node', 'ls', '-q'), node)
  t.equal(await swarmctl('stack', 'ls', '--format', '{{.Name}} {{.Services}}'), 'hello 1')
  t.equal(await containers(), before)
})

t.test('leave --force leaves nothing, and the machine can begin again', async (t) => {
  await swarmctl('swarm', 'leave', '--force')
  t.equal(await containers(), '')
  t.strictSame(readdirSync(host.paths.swarmdData), [])
  t.strictSame(await runtimeFiles(), filesBefore)
  t.equal(await swarmctl('info', '-f', '{{.Swarm.LocalNodeState}}'), 'inactive')
  t.equal((await lab.client(['curl', '-s', '-m', '2', `http://${host.address}:8080/`])).code, 7, 'nothing listens')

  await swarmctl('swarm', 'init')
  t.equal(await swarmctl('service', 'ls', '-q'), '')
  await swarmctl('stack', 'deploy', '-c', join(projectRoot, 'compose-examples/hello.yml'), 'hello')
  t.match(await answer(), /^hello version=1 /)
})
