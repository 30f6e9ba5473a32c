// The stock docker clients against swarmd, on the leader and on a follower: what test/e2e/api.test.ts asks of the API alone
// is here seen to happen, on three nodes, in containers.

import { spawn } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { callApi } from '../../lab/engine-api.ts'
import type { LabHost } from '../../lab/lab-host.ts'
import { type RunResult, run } from '../../lab/run.ts'
import { isModern, NEWEST_DOCKER, OLDEST_DOCKER } from '../support/docker-clients.ts'
import { freshCluster } from './support/fresh-cluster.ts'
import { listingsAgree } from './support/listings.ts'
import { waitFor } from './support/wait-for.ts'

const WAIT_MS = 120_000
const [NEW, OLD] = [NEWEST_DOCKER, OLDEST_DOCKER]
const cluster = await freshCluster(t)
const { lab } = cluster
const leader = await cluster.leader()
const [follower, third] = lab.hosts.filter((host) => host !== leader)
if (!follower || !third) throw new Error('three hosts are needed')
const folder = mkdtempSync(join(tmpdir(), 'swarmctl-e2e-docker-'))
t.teardown(() => rmSync(folder, { recursive: true, force: true }))

const docker = (client: string, host: LabHost, ...args: string[]): Promise<RunResult> =>
  run([client, ...args], { env: host.clientEnv('swarmd'), timeoutMs: WAIT_MS })
async function succeeds(client: string, host: LabHost, ...args: string[]): Promise<string> {
  const { code, stdout, stderr } = await docker(client, host, ...args)
  if (code !== 0) throw new Error(`${client} ${args.join(' ')} on ${host.name}: ${code} ${stderr}${stdout}`)
  return stdout.trim()
}
/** With a terminal, as a person has one. */
const onTerminal = (client: string, host: LabHost, ...args: string[]): Promise<RunResult> => {
  const line = [client, ...args].map((word) => `'${word.replaceAll("'", "'\\''")}'`).join(' ')
  return run(['script', '-qec', `stty cols 120; ${line}`, '/dev/null'], {
    env: host.clientEnv('swarmd'),
    timeoutMs: WAIT_MS,
  })
}
const until = (what: string, fact: () => Promise<unknown>) =>
  cluster.waitFor(what, async () => Boolean(await fact()), WAIT_MS, leader)

/** The container of a service's task, and the host that it is on. */
async function containersOf(service: string): Promise<readonly { readonly host: LabHost; readonly id: string }[]> {
  const lists = await Promise.all(
    lab.hosts.map(async (host) => {
      const filters = ['--filter', `label=com.docker.swarm.service.name=${service}`]
      const { stdout } = await host.docker(['ps', '-q', ...filters])
      return stdout
        .split('\n')
        .filter((id) => id !== '')
        .map((id) => ({ host, id }))
    }),
  )
  return lists.flat()
}
const curl = async (host: LabHost, port: number): Promise<string> =>
  (await lab.client(['curl', '-s', '-m', '2', `http://${host.address}:${port}/`])).stdout
// Docker’s client looks each 200 ms, and ends without a word when an update is complete before it has seen the tasks run.
const converges = ['--update-monitor', '1s', '--rollback-monitor', '1s']

t.test('a service with all that it can have is followed by a progress bar until it runs', async (t) => {
  writeFileSync(join(folder, 'secret'), 'hidden')
  writeFileSync(join(folder, 'config'), 'shown')
  await succeeds(NEW, follower, 'secret', 'create', 'cli-secret', join(folder, 'secret'))
  await succeeds(OLD, leader, 'config', 'create', 'cli-config', join(folder, 'config'))
  await succeeds(NEW, follower, 'node', 'update', '--label-add', 'cli=yes', third.name)
  const created = await onTerminal(
    NEW,
    follower,
    ...['service', 'create', '--name', 'cli-web', '--replicas', '1', ...converges],
    ...['--env', 'WHO={{.Node.Hostname}}', '--hostname', 'box-{{.Task.Slot}}', '--label', 'a=b'],
    ...['--secret', 'cli-secret', '--config', 'source=cli-config,target=/etc/shown,mode=0440'],
    ...['--mount', 'type=tmpfs,target=/scratch', '--mount', 'type=volume,source=cli-data,target=/data'],
    ...['--constraint', 'node.labels.cli==yes', '--limit-memory', '200m', '--limit-cpu', '0.5'],
    ...['--health-cmd', 'healthy', '--health-interval', '500ms', '--health-start-period', '60s'],
    ...['--publish', 'mode=host,published=7100,target=8080', 'hello:1'],
  )
  t.equal(created.code, 0, created.stdout)
  t.match(created.stdout, /overall progress: 1 out of 1 tasks/)
  t.match(created.stdout, /1\/1: running\s+\[=+>\]/, 'a bar')
  t.match(created.stdout, /verify: Service \w+ converged/)

  const [found] = await containersOf('cli-web')
  t.equal(found?.host, third, 'where the constraint says')
  const { id = '' } = found ?? {}
  const inside = [
    'sh',
    '-c',
    'hostname; echo $WHO; cat /run/secrets/cli-secret /etc/shown; grep -c " /scratch tmpfs\\| /data " /proc/mounts',
  ]
  t.equal(await succeeds(NEW, third, 'exec', id, ...inside), `box-1\n${third.name}\nhiddenshown2`)
  t.equal(
    await succeeds(NEW, third, 'inspect', '-f', '{{.HostConfig.Memory}} {{.HostConfig.NanoCpus}}', id),
    `${200 * 1024 ** 2} 500000000`,
  )
  t.equal(await succeeds(OLD, third, 'inspect', '-f', '{{.State.Health.Status}}', id), 'healthy')
  t.match(await curl(third, 7100), /^hello version=1 hostname=box-1 /)
  t.match(await onTerminal(NEW, third, 'exec', '-it', id, 'tty'), { code: 0, stdout: /\/dev\/pts\/\d/ })
  t.match(await succeeds(NEW, third, 'ps', '--filter', `id=${id}`), /cli-web\.1\./)
})

t.test('it is listed, updated, rolled back, scaled and removed, by either client on either manager', async (t) => {
  const image = async () => (await curl(third, 7100)).split(' ')[1]
  for (const [client, host] of [
    [NEW, leader],
    [OLD, follower],
  ] as const) {
    t.match(await succeeds(client, host, 'service', 'ls'), /cli-web\s+replicated\s+1\/1\s+hello:/)
    t.match(
      await succeeds(client, host, 'service', 'ps', 'cli-web', '--filter', 'desired-state=running'),
      new RegExp(`cli-web\\.1\\s+hello:\\d\\s+${third.name}\\s+Running\\s+Running`),
    )
    t.match(
      await succeeds(client, host, 'service', 'inspect', '--pretty', 'cli-web'),
      /Name:\s+cli-web\n[\s\S]*Constraints:\[node.labels.cli==yes\]|Placement:[\s\S]*node\.labels\.cli==yes/,
    )
    const updated = await docker(
      client,
      host,
      'service',
      'update',
      '--image',
      'hello:2',
      '--no-resolve-image',
      'cli-web',
    )
    t.match(updated, { code: 0, stdout: /overall progress: 1 out of 1 tasks[\s\S]*converged/ }, updated.stderr)
    t.equal(await image(), 'version=2')
    const back = await docker(client, host, 'service', 'rollback', 'cli-web')
    t.match(back, { code: 0, stdout: /rollback: manually requested rollback[\s\S]*converged/ }, back.stderr)
    t.equal(await image(), 'version=1')
  }
  t.match(
    await succeeds(OLD, follower, 'service', 'inspect', '-f', '{{.UpdateStatus.State}}', 'cli-web'),
    'rollback_completed',
  )
})

t.test('logs are followed over nodes, events tell of what happens', async (t) => {
  const follow = (...args: string[]) => {
    const child = spawn(NEW, args, { env: follower.clientEnv('swarmd'), stdio: ['ignore', 'pipe', 'inherit'] })
    let text = ''
    child.stdout.on('data', (chunk: Buffer) => {
      text += chunk.toString()
    })
    t.teardown(() => child.kill())
    return (pattern: RegExp, withinMs = WAIT_MS) =>
      waitFor(`${args[0]} show ${pattern}`, async () => pattern.test(text), withinMs)
  }
  const events = follow(
    'events',
    '--filter',
    'scope=swarm',
    '--format',
    '{{.Type}} {{.Action}} {{.Actor.Attributes.name}}',
  )
  writeFileSync(join(folder, 'sign'), 'x')
  await until('somebody listens to events', async () => {
    await docker(NEW, follower, 'config', 'create', `cli-sign-${Math.round(performance.now())}`, join(folder, 'sign'))
    return events(/config create cli-sign/, 1_000).then(
      () => true,
      () => false,
    )
  })
  const script = 'trap "exit 0" TERM; i=0; while :; do i=$((i+1)); echo "$HOSTNAME says $i"; sleep 0.3; done'
  const create = ['service', 'create', '-d', '--no-resolve-image', '--mode', 'global', '--name', 'cli-talk']
  await succeeds(
    OLD,
    follower,
    ...create,
    '--hostname',
    '{{.Node.Hostname}}',
    '--env',
    'HOSTNAME={{.Node.Hostname}}',
    'busybox',
    'sh',
    '-c',
    script,
  )
  await events(/service create cli-talk/)
  await until('it runs on each node', async () => (await containersOf('cli-talk')).length === 3)
  const logs = follow('service', 'logs', '-f', 'cli-talk')
  for (const host of lab.hosts)
    await logs(new RegExp(`cli-talk\\.0\\.\\w+@${host.name}\\s+\\| ${host.name} says [2-9]`))
  t.match(await succeeds(OLD, leader, 'service', 'logs', '--tail', '1', 'cli-talk'), /says \d/)

  await succeeds(NEW, follower, 'node', 'update', '--availability', 'drain', third.name)
  await events(/node update/)
  await until('the node is drained', async () => (await containersOf('cli-talk')).every(({ host }) => host !== third))
  await succeeds(NEW, leader, 'node', 'update', '--availability', 'active', third.name)
  await succeeds(NEW, leader, 'service', 'rm', 'cli-talk')
  await events(/service remove cli-talk/)
  t.match(await docker(NEW, leader, 'service', 'ps', 'cli-talk'), { code: 1, stderr: /no such service: cli-talk/ })
})

t.test('a stack', async (t) => {
  const file = join(folder, 'stack.yml')
  writeFileSync(
    file,
    `version: "3.8"
services:
  web:
    image: hello:1
    environment: {PORT: "9000"}
    secrets: [s]
    configs: [{source: c, target: /etc/c}]
    deploy: {replicas: 2, labels: {tier: front}}
secrets:
  s: {file: ./secret}
configs:
  c: {file: ./config}
`,
  )
  const deploy = ['stack', 'deploy', '--resolve-image', 'never', '-c', file, 'clistack']
  t.match(await succeeds(OLD, follower, ...deploy), /Creating service clistack_web/)
  // 20.10 never waits, and has no word for it
  const again = isModern(NEW) ? [...deploy, '--detach=true'] : deploy
  t.match(await succeeds(NEW, leader, ...again), /Updating service clistack_web/)
  await until('both run', async () => (await containersOf('clistack_web')).length === 2)
  const [found] = await containersOf('clistack_web')
  if (!found) throw new Error('no container')
  const read = ['sh', '-c', 'cat /run/secrets/s /etc/c']
  t.equal(await succeeds(NEW, found.host, 'exec', found.id, ...read), 'hiddenshown')
  t.match(await succeeds(NEW, follower, 'stack', 'ls'), /clistack\s+1/)
  t.match(await succeeds(OLD, follower, 'stack', 'services', 'clistack'), /clistack_web\s+replicated\s+2\/2/)
  t.equal(
    (await succeeds(NEW, leader, 'stack', 'ps', '-q', '--filter', 'desired-state=running', 'clistack')).split('\n')
      .length,
    2,
  )
  await succeeds(NEW, follower, 'stack', 'rm', 'clistack')
  await until('no container is left', async () => (await containersOf('clistack_web')).length === 0)
  t.notMatch(await succeeds(NEW, leader, 'secret', 'ls'), 'clistack')
})

t.test('docker and swarmctl list and show the same', async (t) => {
  const file = join(folder, 'listed.yml')
  writeFileSync(
    file,
    `version: "3.8"
services:
  web:
    image: hello:1
    ports: ["7200:8080", {target: 8080, published: 7201, mode: host}]
    networks: [net]
    secrets: [s]
    configs: [{source: c, target: /etc/c}]
    deploy: {replicas: 2, labels: {tier: front}, update_config: {delay: 1s}, placement: {preferences: [{spread: node.labels.z}]}}
  all:
    image: busybox
    deploy: {mode: global}
networks:
  net: {attachable: true}
secrets:
  s: {file: ./secret}
configs:
  c: {file: ./config}
`,
  )
  await succeeds(OLD, leader, 'stack', 'deploy', '--resolve-image', 'never', '-c', file, 'listed')
  const create = (name: string, ...flags: string[]) =>
    succeeds(OLD, leader, 'service', 'create', '-d', '--no-resolve-image', '--name', name, ...flags)
  await create('listed-nowhere', '--constraint', 'node.labels.none==here', 'busybox')
  const fails = ['--restart-condition', 'on-failure', '--restart-max-attempts', '1', '--restart-delay', '0s']
  await create('listed-failing', ...fails, 'busybox', 'false')
  await create('listed-job', '--mode', 'replicated-job', '--replicas', '2', 'busybox', 'true')
  await until('they are what they will be', async () => {
    const lines = await succeeds(OLD, leader, 'service', 'ls', '--format', '{{.Name}} {{.Replicas}}')
    const failed = await succeeds(OLD, leader, 'service', 'ps', '-q', '-f', 'desired-state=shutdown', 'listed-failing')
    const whole = ['listed_web 2/2', 'listed_all 3/3', 'listed-job 0/2 (2/2 completed)']
    return whole.every((line) => lines.includes(line)) && failed.split('\n').length === 2
  })
  const services = ['listed_web', 'listed_all', 'listed-nowhere', 'listed-failing', 'listed-job', 'cli-web']
  await listingsAgree(t, follower, {
    ...{ services, stack: 'listed', secret: 'listed_s', config: 'listed_c', network: 'listed_net' },
    nodes: lab.hosts.map(({ name }) => name),
  })
  await succeeds(OLD, leader, 'service', 'rm', 'listed-nowhere', 'listed-failing', 'listed-job')
  await succeeds(OLD, leader, 'stack', 'rm', 'listed')
})

t.test('nodes are demoted, leave, are removed, join with the new token only, and are promoted', async (t) => {
  const role = async () =>
    (
      await docker(
        NEW,
        leader,
        'node',
        'inspect',
        '-f',
        '{{.Spec.Role}} {{if .ManagerStatus}}{{.ManagerStatus.Reachability}}{{end}}',
        third.name,
      )
    ).stdout.trim()
  t.match(await docker(NEW, leader, 'node', 'rm', third.name), {
    code: 1,
    stderr: /is a cluster manager and is a member of the raft cluster/,
  })
  t.equal(await succeeds(OLD, follower, 'node', 'demote', third.name), `Manager ${third.name} demoted in the swarm.`)
  await until('it is a worker', async () => /Is Manager: false/.test(await succeeds(NEW, third, 'info')))
  t.match(await docker(NEW, third, 'node', 'ls'), {
    code: 1,
    stderr: /This node is not a swarm manager\. Worker nodes can't be used to view or modify cluster state/,
  })
  t.match(await docker(NEW, leader, 'node', 'rm', third.name), { code: 1, stderr: /is not down and can't be removed/ })
  t.equal(await succeeds(NEW, third, 'swarm', 'leave'), 'Node left the swarm.')
  t.equal(
    await succeeds(NEW, leader, 'node', 'ls', '--filter', `name=${third.name}`, '--format', '{{.Status}}'),
    'Down',
    'at once',
  )
  t.equal(await succeeds(OLD, leader, 'node', 'rm', third.name), third.name)
  await until(
    'its containers are gone',
    async () => (await third.docker(['ps', '-aq', '--filter', 'label=com.docker.swarm.task.id'])).stdout === '',
  )

  const before = await succeeds(NEW, leader, 'swarm', 'join-token', '-q', 'worker')
  const shown = await succeeds(OLD, follower, 'swarm', 'join-token', '--rotate', 'worker')
  const token = /docker swarm join --token (SWMTKN-1-\S+) (\S+:2377)/.exec(shown)
  t.match(shown, /^Successfully rotated worker join token\./)
  const remote = token?.[2] ?? ''
  t.match(await docker(NEW, third, 'swarm', 'join', '--token', before, remote), {
    code: 1,
    stderr: /A valid join token is necessary/,
  })
  t.equal(
    await succeeds(OLD, third, 'swarm', 'join', '--token', token?.[1] ?? '', remote),
    'This node joined a swarm as a worker.',
  )
  t.equal(
    await succeeds(NEW, leader, 'node', 'promote', third.name),
    `Node ${third.name} promoted to a manager in the swarm.`,
  )
  await until('it is a manager', async () => (await role()) === 'manager reachable')
  const whole = /Swarm: active\s+NodeID: \w+\s+Is Manager: true\s+ClusterID: \w+\s+Managers: 3\s+Nodes: 3/
  await until('it says so itself', async () => whole.test(await succeeds(NEW, third, 'info')))
  t.match(await succeeds(NEW, third, 'node', 'ps', 'self', leader.name), /ID\s+NAME/)
})

t.test('a container is run on one machine, beside the swarm', async (t) => {
  t.equal(await succeeds(NEW, follower, 'run', '--rm', 'busybox', 'echo', 'hello'), 'hello')
  await succeeds(NEW, leader, 'service', 'rm', 'cli-web')
  await until('the service is gone', async () => (await containersOf('cli-web')).length === 0)
  await succeeds(NEW, leader, 'secret', 'rm', 'cli-secret')
  await succeeds(OLD, leader, 'config', 'rm', 'cli-config')
  const volume = await callApi(third.paths.engineSocket, { method: 'DELETE', path: '/volumes/cli-data?force=1' })
  t.equal(volume.status, 204)
})
