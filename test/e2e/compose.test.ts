// Stacks with what Swarm's specs have no field for: real containers have it, both of Docker's clients carry it through an
// update, a cluster that does not allow it says so, and services start in the order of their depends_on.

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { run } from '../../lab/run.ts'
import { DOCKER_CLIENTS } from '../support/docker-clients.ts'
import { freshCluster } from './support/fresh-cluster.ts'

const WAIT_MS = 120_000

const cluster = await freshCluster(t)
const leader = await cluster.leader()
const folder = mkdtempSync(join(tmpdir(), 'swarmctl-e2e-compose-'))
t.teardown(() => rmSync(folder, { recursive: true, force: true }))

const swarmctl = (...args: string[]) => leader.swarmctl(args, { timeoutMs: WAIT_MS })
const deploy = (text: string, stack: string, ...flags: string[]) => {
  const file = join(folder, `${stack}.yml`)
  writeFileSync(file, text)
  return swarmctl('stack', 'deploy', '--resolve-image', 'never', ...flags, '-c', file, stack)
}
const json = async (...args: string[]): Promise<Record<string, unknown>> => {
  const { code, stdout, stderr } = await swarmctl(...args)
  if (code !== 0) throw new Error(`swarmctl ${args.join(' ')}: ${stderr}`)
  return JSON.parse(stdout) as Record<string, unknown>
}
const labelsOf = (service: string) => json('service', 'inspect', '--format', '{{json .Spec.Labels}}', service)

/** What the engine made of the service's newest container, even where that cannot start. */
async function containerOf(
  service: string,
): Promise<{ readonly Config: object; readonly HostConfig: object } | undefined> {
  const { stdout } = await leader.docker(['ps', '-aq', '--filter', `label=com.docker.swarm.service.name=${service}`])
  const [id] = stdout.trim().split('\n')
  if (!id) return undefined
  return JSON.parse((await leader.docker(['inspect', '-f', '{{json .}}', id])).stdout) as ReturnType<
    typeof containerOf
  > & {}
}

const HERE = `deploy: {placement: {constraints: ["node.id==${(await cluster.swarmState(leader)).NodeID}"]}}`

const CONTAINED = `services:
  app:
    image: busybox
    ${HERE}
    shm_size: 8m
    cpu_shares: 512
    cpuset: "0"
    domainname: example.org
    ipc: shareable
    runtime: runc
    security_opt: [no-new-privileges]
    tmpfs: ["/run/app:noexec,size=1m"]
    mem_limit: 64m
    memswap_limit: 96m
    cpu_quota: 60000
    cpu_period: 100000
    pull_policy: missing
    ports: ["127.0.0.1:7480:80"]
    networks: {default: {ipv4_address: 10.46.0.46}}
networks:
  default: {ipam: {config: [{subnet: 10.46.0.0/24}]}}
`

const POWERFUL = `services:
  tool:
    image: busybox
    ${HERE}
    devices: ["/dev/null:/dev/mine:r"]
    pid: host
    uts: host
    cgroup: host
    userns_mode: host
    device_cgroup_rules: ["c 1:3 r"]
  bridged:
    image: busybox
    ${HERE}
    network_mode: bridge
    mac_address: 02:42:ac:11:99:43
`

t.test('containers have what the file says, and Docker’s own clients do not take it away', async (t) => {
  const ran = await deploy(CONTAINED, 'contained')
  t.equal(ran.code, 0, ran.stderr)
  const wanted = {
    Config: { Domainname: 'example.org' },
    HostConfig: {
      ShmSize: 8 * 2 ** 20,
      CpuShares: 512,
      CpusetCpus: '0',
      IpcMode: 'shareable',
      Runtime: 'runc',
      SecurityOpt: ['no-new-privileges'],
      Tmpfs: { '/run/app': 'noexec,size=1m' },
      Memory: 64 * 2 ** 20,
      MemorySwap: 96 * 2 ** 20,
      CpuQuota: 60_000,
      CpuPeriod: 100_000,
    },
  }
  t.match(await containerOf('contained_app'), wanted)
  const before = await labelsOf('contained_app')
  t.match(before, {
    'io.swarmctl.publish.7480/tcp': '127.0.0.1',
    'io.swarmctl.network.contained_default.ip': '10.46.0.46',
    'io.swarmctl.pull-policy': 'missing',
  })
  for (const [i, client] of DOCKER_CLIENTS.entries()) {
    const argv = [client, 'service', 'update', '--env-add', `X=${i}`, '--no-resolve-image', 'contained_app']
    const { code, stderr } = await run(argv, { env: leader.clientEnv('swarmd'), timeoutMs: WAIT_MS })
    t.equal(code, 0, stderr)
    t.same(await labelsOf('contained_app'), before, client)
  }
  const after = await containerOf('contained_app')
  t.match(after, wanted)
  t.match(after, { Config: { Env: /X=1/ } })
  const { stdout } = await swarmctl('service', 'inspect', '--format', '{{json .Endpoint.VirtualIPs}}', 'contained_app')
  t.match(stdout, '"Addr":"10.46.0.46/24"', 'its own address stays')
})

t.test('what reaches the host needs the cluster’s leave', async (t) => {
  const refused = await deploy(POWERFUL, 'powerful', '-d')
  t.not(refused.code, 0)
  t.match(refused.stderr, /io\.swarmctl\.container\.\S+: it gives power over the nodes .*host-access=allow/)
  t.notMatch((await swarmctl('network', 'ls')).stdout, /powerful/, 'and nothing of the stack is made')
  await cluster.swarmctl(leader, 'swarm', 'update', '--label-add', 'io.swarmctl.host-access=allow')
  const ran = await deploy(POWERFUL, 'powerful')
  t.equal(ran.code, 0, ran.stderr)
  t.match(await containerOf('powerful_tool'), {
    HostConfig: {
      Devices: [{ PathOnHost: '/dev/null', PathInContainer: '/dev/mine', CgroupPermissions: 'r' }],
      PidMode: 'host',
      UTSMode: 'host',
      CgroupnsMode: 'host',
      UsernsMode: 'host',
      DeviceCgroupRules: ['c 1:3 r'],
    },
  })
  t.match(await containerOf('powerful_bridged'), {
    HostConfig: { NetworkMode: 'bridge' },
    NetworkSettings: { Networks: { bridge: { MacAddress: '02:42:ac:11:99:43' } } },
  })
})

t.test('a container is as privileged as its file, whether or not this machine can run it', async (t) => {
  const text = `services: {tool: {image: busybox, privileged: true, restart: on-failure:1, ${HERE}}}`
  const ran = await deploy(text, 'privileged', '-d')
  t.equal(ran.code, 0, ran.stderr)
  await cluster.waitFor('its container', async () => (await containerOf('privileged_tool')) !== undefined, WAIT_MS)
  t.match(await containerOf('privileged_tool'), { HostConfig: { Privileged: true } })
})

t.test('a plugin on the managers gives each task its secret, and its word where it gives none', async (t) => {
  const socket = join(folder, 'vault.sock')
  const plugin = createServer((request, response) => {
    let text = ''
    request.on('data', (chunk: Buffer) => {
      text += chunk
    })
    request.on('end', () => {
      if (request.url === '/Plugin.Activate') return response.end('{"Implements":["secretprovider"]}')
      const { SecretName, TaskName, SecretLabels } = JSON.parse(text) as Record<string, unknown>
      if (String(SecretName).endsWith('locked')) return response.end('{"Err":"the vault is locked"}')
      const value = `${SecretName} ${TaskName} ${JSON.stringify(SecretLabels)}`
      return response.end(JSON.stringify({ Value: Buffer.from(value).toString('base64') }))
    })
  })
  plugin.listen(socket)
  t.teardown(() => plugin.close())
  for (const host of cluster.lab.managers) {
    await host.exec(['sh', '-c', `mkdir -p /etc/docker/plugins; echo unix://${socket} >/etc/docker/plugins/vault.spec`])
  }
  const file = `services:
  app: {image: busybox, command: [sleep, "1000"], secrets: [word], ${HERE}}
  shut: {image: busybox, command: [sleep, "1000"], secrets: [locked], ${HERE}}
secrets:
  word: {driver: vault, labels: {a: b}}
  locked: {driver: vault}
`
  const { code, stderr } = await deploy(file, 'vaulted', '--detach')
  t.equal(code, 0, stderr)
  t.equal((await swarmctl('secret', 'ls', '-f', 'name=vaulted_word', '--format', '{{.Driver}}')).stdout, 'vault\n')
  const read = await cluster.waitFor(
    'the secret is read',
    async () => {
      const { code, stdout } = await swarmctl('exec', 'vaulted_app', 'cat', '/run/secrets/word')
      return code === 0 ? stdout : undefined
    },
    WAIT_MS,
  )
  t.match(read, /^vaulted_word vaulted_app\.1\.[0-9a-z]{25} \{.*"a":"b".*\}$/)
  await cluster.waitFor(
    'the other task is rejected',
    async () => {
      const { stdout } = await swarmctl(
        'service',
        'ps',
        '--no-trunc',
        '--format',
        '{{.CurrentState}} {{.Error}}',
        'vaulted_shut',
      )
      return /^Rejected .*"secret vaulted_locked: driver vault: the vault is locked"$/m.test(stdout)
    },
    WAIT_MS,
  )
  await swarmctl('stack', 'rm', 'vaulted')
})

t.test('services start in the order of what they need, and say what they wait for', async (t) => {
  const file = (release: boolean) => `services:
  web:
    image: busybox
    ${HERE}
    depends_on: {db: {condition: service_healthy}, job: {condition: service_completed_successfully}}
  db:
    image: busybox
    ${HERE}
    healthcheck: {test: "${release ? 'true' : 'false'}", interval: 300ms, start_period: 60s}
  job:
    image: busybox
    command: "true"
    deploy: {mode: replicated-job}
`
  const first = await deploy(file(false), 'ordered', '-d')
  t.equal(first.code, 0, first.stderr)
  const task = async () => (await swarmctl('service', 'ps', '--no-trunc', 'ordered_web')).stdout
  await cluster.waitFor(
    'web waits for db alone',
    async () => /Pending .*"waiting for service ordered_db to be healthy"/.test(await task()),
    WAIT_MS,
  )
  t.equal(await containerOf('ordered_web'), undefined)
  const second = await deploy(file(true), 'ordered')
  t.equal(second.code, 0, second.stderr)
  t.match(await task(), /Running/)
  t.ok(await containerOf('ordered_web'))
})
