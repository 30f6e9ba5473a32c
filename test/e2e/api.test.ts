// swarmd's API between the real docker clients and a real engine: every command of Swarm's that needs no worker, and the
// pass-through with its streams. The cluster is one manager in this process; tasks are not run here.

import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { type RunResult, run } from '../../lab/run.ts'
import { ApiServer } from '../../src/daemon/api/api-server.ts'
import { SystemClock } from '../../src/lib/clock.ts'
import { silentLog } from '../../src/lib/log.ts'
import { ask, open } from '../support/api-client.ts'
import { ApiCluster, NODE_ID } from '../support/api-cluster.ts'
import { sharedLab } from './support/shared-lab.ts'

const PREFIX = 'apitest'
const lab = await sharedLab(t)
const engine = lab.host('n1').paths.engineSocket
const folder = mkdtempSync(join(tmpdir(), 'swarmd-e2e-api-'))
const cluster = new ApiCluster()
const server = new ApiServer({
  cluster,
  engine: { kind: 'unix', path: engine },
  clock: new SystemClock(),
  random: cluster.random,
  log: silentLog,
  version: '0.0.0',
})
const socket = join(folder, 'swarmd.sock')
await server.listen({ kind: 'unix', path: socket })
t.teardown(async () => {
  await server.close()
  rmSync(folder, { recursive: true })
})
const env = { DOCKER_HOST: `unix://${socket}`, DOCKER_CONFIG: join(folder, 'config'), PATH: process.env.PATH ?? '' }

/** Debian's client, and a newer one where there is one. */
const CLIENTS = ['/usr/bin/docker', '/usr/local/bin/docker'].filter((path) => existsSync(path))
t.not(CLIENTS.length, 0, 'there is a docker client')

for (const client of CLIENTS) {
  const docker = (args: readonly string[], input?: string): Promise<RunResult> =>
    run([client, ...args], { env, ...(input === undefined ? {} : { input }) })
  const succeeds = async (test: Pick<typeof t, 'equal'>, ...args: readonly string[]): Promise<string> => {
    const { code, stdout, stderr } = await docker(args)
    test.equal(code, 0, `${args.join(' ')}: ${stderr}`)
    return stdout.trim()
  }
  const refused = async (test: Pick<typeof t, 'not' | 'match'>, text: string | RegExp, ...args: readonly string[]) => {
    const { code, stderr } = await docker(args)
    test.not(code, 0, args.join(' '))
    test.match(stderr, text, args.join(' '))
  }

  t.test(`${client}: a swarm from init to leave`, async (t) => {
    await refused(t, 'This node is not a swarm manager. Use "docker swarm init"', 'node', 'ls')
    t.match(
      await succeeds(t, 'swarm', 'init', '--listen-addr', '127.0.0.1:2377'),
      /Swarm initialized: current node \(\w+\) is now a manager/,
    )
    cluster.addIngress()
    await refused(t, 'This node is already part of a swarm', 'swarm', 'init')
    t.match(await succeeds(t, 'info'), /Swarm: active\n\s+NodeID: \w+\n\s+Is Manager: true/)
    const token = await succeeds(t, 'swarm', 'join-token', '-q', 'worker')
    t.match(token, /^SWMTKN-1-/)
    t.not(await succeeds(t, 'swarm', 'join-token', '-q', '--rotate', 'worker'), token)
    await succeeds(t, 'swarm', 'update', '--task-history-limit', '3')
    t.match(await succeeds(t, 'info'), /Task History Retention Limit: 3/)
    t.match(
      await succeeds(t, 'swarm', 'update', '--autolock'),
      /^Swarm updated.\nTo unlock a swarm manager after it restarts, run the `\w+ swarm unlock`\ncommand and provide the following key:\n\n {4}SWMKEY-1-\S+\n\n(Please r|R)emember to store this key in a password manager/,
    )
    const unlockKey = await succeeds(t, 'swarm', 'unlock-key', '-q')
    t.match(unlockKey, /^SWMKEY-1-\S+\n?$/)
    t.not(await succeeds(t, 'swarm', 'unlock-key', '-q', '--rotate'), unlockKey)
    await succeeds(t, 'swarm', 'update', '--autolock=false')
    await refused(t, 'no unlock key is set', 'swarm', 'unlock-key')
    await refused(t, 'cannot rotate because autolock is not turned on', 'swarm', 'unlock-key', '--rotate')
    await refused(t, 'swarm is not locked', 'swarm', 'unlock')
    t.match(await succeeds(t, 'node', 'ls'), new RegExp(`${NODE_ID} \\*\\s+manager-1\\s+Ready\\s+Active\\s+Leader`))
    await succeeds(t, 'node', 'update', '--label-add', 'zone=east', 'manager-1')
    t.equal(await succeeds(t, 'node', 'inspect', '-f', '{{.Spec.Labels.zone}}', 'self'), 'east')
    await refused(t, 'attempting to demote the last manager of the swarm', 'node', 'demote', 'manager-1')
    await refused(t, 'Removing the last manager erases all current state of the swarm', 'swarm', 'leave')
  })

  t.test(`${client}: services`, async (t) => {
    const create = ['service', 'create', '--detach', '--no-resolve-image']
    const id = await succeeds(
      t,
      ...create,
      '--name',
      'web',
      '--replicas',
      '3',
      '-p',
      '8080:80',
      '--env',
      'A=b',
      'alpine',
      'sleep',
      '9',
    )
    t.match(await succeeds(t, 'service', 'ls'), /web\s+replicated\s+0\/3\s+alpine/)
    t.equal(
      await succeeds(t, 'service', 'inspect', '-f', '{{.ID}} {{.Spec.TaskTemplate.ContainerSpec.Env}}', 'web'),
      `${id} [A=b]`,
    )
    t.match(await succeeds(t, 'service', 'inspect', '--pretty', 'web'), /Service Mode:\s+Replicated\n\s+Replicas:\s+3/)
    await refused(t, 'service web already exists', ...create, '--name', 'web', 'alpine')
    await refused(
      t,
      "port '8080' is already in use by service 'web'",
      ...create,
      '--name',
      'w2',
      '-p',
      '8080:80',
      'alpine',
    )
    await refused(t, 'Must be at least 4MiB', ...create, '--name', 'w2', '--limit-memory', '1m', 'alpine')
    await succeeds(
      t,
      'service',
      'update',
      '--detach',
      '--no-resolve-image',
      '--image',
      'busybox',
      '--env-add',
      'C=d',
      'web',
    )
    await succeeds(t, 'service', 'scale', '--detach', 'web=5')
    t.equal(
      await succeeds(
        t,
        'service',
        'inspect',
        '-f',
        '{{.Spec.Mode.Replicated.Replicas}} {{.PreviousSpec.Mode.Replicated.Replicas}}',
        'web',
      ),
      '5 3',
    )
    await succeeds(t, 'service', 'rollback', '--detach', 'web')
    t.equal(
      await succeeds(
        t,
        'service',
        'inspect',
        '-f',
        '{{.Spec.Mode.Replicated.Replicas}} {{.UpdateStatus.Message}}',
        'web',
      ),
      '3 manually requested rollback',
    )
    await refused(t, /no such service: nope/, 'service', 'inspect', 'nope')
    await succeeds(t, 'service', 'rm', 'web')
    t.equal(cluster.store.count('service'), 0)
  })

  t.test(`${client}: secrets, configs and a stack`, async (t) => {
    t.equal((await docker(['secret', 'create', '-l', 'a=b', 's1', '-'], 'hidden')).code, 0)
    t.equal((await docker(['config', 'create', 'c1', '-'], 'shown')).code, 0)
    t.match((await docker(['secret', 'create', 's1', '-'], 'x')).stderr, 'secret s1 already exists')
    t.match(await succeeds(t, 'secret', 'ls', '-f', 'label=a'), /s1/)
    t.match(await succeeds(t, 'config', 'inspect', '--pretty', 'c1'), /Data:\nshown/)
    await succeeds(
      t,
      'service',
      'create',
      '--detach',
      '--no-resolve-image',
      '--name',
      'u',
      '--secret',
      's1',
      '--config',
      'source=c1,target=/c',
      'alpine',
    )
    await refused(t, "secret 's1' is in use by the following service: u", 'secret', 'rm', 's1')
    await succeeds(t, 'service', 'rm', 'u')
    await succeeds(t, 'secret', 'rm', 's1')
    await succeeds(t, 'config', 'rm', 'c1')

    const file = join(folder, 'stack.yml')
    writeFileSync(
      file,
      'version: "3.8"\nservices:\n  web:\n    image: alpine\n    secrets: [s]\n    deploy: {replicas: 2}\nsecrets:\n  s: {file: ./stack.yml}\n',
    )
    await succeeds(t, 'stack', 'deploy', '--resolve-image', 'never', '-c', file, 'st')
    await succeeds(t, 'stack', 'deploy', '--resolve-image', 'never', '-c', file, 'st')
    t.match(await succeeds(t, 'stack', 'services', 'st'), /st_web\s+replicated\s+0\/2/)
    t.match(await succeeds(t, 'network', 'ls'), /st_default\s+overlay\s+swarm/)
    await succeeds(t, 'stack', 'rm', 'st')
    t.equal(cluster.store.count('service') + cluster.store.count('secret'), 0)
    t.equal(cluster.store.count('network'), 1, 'the ingress network')
  })

  t.test(`${client}: containers of this machine, with their streams`, async (t) => {
    const name = `${PREFIX}-box`
    t.teardown(() => docker(['rm', '-f', name]))
    t.match(await succeeds(t, 'version'), /swarmd:\n\s+Version:\s+0\.0\.0/)
    const events = await open(socket, '/events')
    t.equal(await succeeds(t, 'run', '--rm', 'busybox', 'echo', 'hello'), 'hello')
    await events.until(/"die"/)
    events.close()
    await succeeds(t, 'run', '-d', '--name', name, 'busybox', 'sh', '-c', 'echo started; exec sleep 300')
    const fed = await docker(['exec', '-i', name, 'sh', '-c', 'cat; echo after the end; exit 3'], 'fed\n')
    t.match(fed, { code: 3, stdout: 'fed\nafter the end\n' })
    t.match(await run(['script', '-qc', `${client} exec -it ${name} tty`, '/dev/null'], { env }), {
      code: 0,
      stdout: /\/dev\/pts\/\d/,
    })
    t.match(await docker(['run', '-i', '--rm', 'busybox', 'wc', '-c'], 'x'.repeat(300_000)), {
      code: 0,
      stdout: '300000\n',
    })
    t.equal(await succeeds(t, 'logs', name), 'started')
    t.match(await succeeds(t, 'ps', '--filter', `name=${name}`), name)
    await refused(t, /network with name bridge already exists/, 'network', 'create', '-d', 'overlay', 'bridge')
    await refused(t, /Invalid container name/, 'run', '--name', '!', 'busybox')
    t.equal((await ask(socket, 'GET', '/v1.51/containers/json')).status, 200, 'a newer version than the engine has')
    await succeeds(t, 'swarm', 'leave', '--force')
    t.match(await succeeds(t, 'info'), /Swarm: inactive/)
  })
}
