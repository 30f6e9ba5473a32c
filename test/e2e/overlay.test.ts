// Overlay networks between real containers: balance, hairpin, isolation, several networks, dual stack, internal ones, large
// transfers, links that are cut, and addresses that come round.

import t from 'tap'
import { freshCluster } from './support/fresh-cluster.ts'
import { addressesOf, fetchFrom, type Inside, insideOf, pings } from './support/inside.ts'

const WAIT_MS = 120_000
const cluster = await freshCluster(t)
const { lab } = cluster
const [n1, n2, n3] = [lab.host('n1'), lab.host('n2'), lab.host('n3')]

const network = (name: string, ...flags: string[]): Promise<string> =>
  cluster.docker(n1, 'network', 'create', '-d', 'overlay', ...flags, name)

async function create(name: string, count: number, ...flags: string[]): Promise<readonly Inside[]> {
  await cluster.docker(n1, 'service', 'create', '-d', '--no-resolve-image', '--name', name, ...flags)
  return cluster.waitFor(
    `${count} tasks of ${name} run`,
    async () => {
      const found = await insideOf(cluster, name)
      return found.length === count && found
    },
    WAIT_MS,
  )
}

function first(list: readonly Inside[]): Inside {
  const [one] = list
  if (!one) throw new Error('no task')
  return one
}

const remove = (...services: string[]): Promise<string> => cluster.docker(n1, 'service', 'rm', ...services)
async function removeNetwork(...names: string[]): Promise<void> {
  for (const name of names) {
    // until its last task has gone
    await cluster.waitFor(`${name} is removed`, () => cluster.docker(n1, 'network', 'rm', name), WAIT_MS)
  }
}

/** How often each host name answers `count` requests, 10 at a time in one process. */
async function spread(from: Inside, name: string, count: number): Promise<Record<string, number>> {
  const script = `
    const http = require('http'), by = {}
    const ask = () => new Promise((ok, no) => http.get({ host: process.argv[1], port: 8080, agent: false, timeout: 3000 }, (r) => {
      let text = ''; r.on('data', (d) => text += d).on('end', () => { const h = /hostname=(\\S+)/.exec(text)[1]; by[h] = (by[h] || 0) + 1; ok() })
    }).on('error', no).on('timeout', function () { this.destroy(new Error('timed out')) }))
    ;(async () => { for (let i = 0; i < ${count}; i++) await ask(); console.log(JSON.stringify(by)) })().catch((e) => { console.error(e.message); process.exit(1) })
  `
  const { code, stdout, stderr } = await from.exec('node', '-e', script, name)
  if (code !== 0) throw new Error(`${name}: ${stderr}`)
  return JSON.parse(stdout) as Record<string, number>
}

t.test('a virtual address spreads connections in turn, also to the one that asks', async (t) => {
  await network('ov-front')
  const web = await create('ov-web', 3, '--network', 'ov-front', '--mode', 'global', 'hello:1')
  for (const from of web) {
    const by = await cluster.waitFor(
      `${from.host.name} spreads over all three`,
      async () => {
        const counts = await spread(from, 'ov-web', 30)
        return Object.values(counts).length === 3 && Object.values(counts).every((count) => count === 10) && counts
      },
      WAIT_MS,
    )
    t.ok(by, `${from.host.name}: ${JSON.stringify(by)}`)
  }
  const addresses = await addressesOf(first(web))
  const answer = await cluster.waitFor(
    'another task sees the address of the one that asks',
    async () => {
      const got = await fetchFrom(first(web), 'ov-web')
      return got.hostname !== '' && addresses.includes(got.client) && got
    },
    WAIT_MS,
  )
  t.ok(answer)
})

t.test('containers of different networks cannot reach each other, nor the control port of the host', async (t) => {
  await network('ov-other')
  const other = first(
    await create('ov-lonely', 1, '--network', 'ov-other', '--constraint', 'node.hostname==n1', 'hello:1'),
  )
  const web = await insideOf(cluster, 'ov-web')
  for (const target of web) {
    for (const address of await addressesOf(target)) {
      if (address.startsWith('127.') || address.includes(':')) continue
      t.notOk(await pings(other, address), `${target.host.name}'s ${address} is out of reach`)
    }
  }
  await t.rejects(fetchFrom(other, 'ov-web'), /ENOTFOUND|EAI_AGAIN/, 'the name of another network is not known')
  const probe = `
    const s = require('net').connect({ host: process.argv[1], port: 2377, timeout: 1500 })
    s.on('connect', () => { console.log('open'); process.exit() }).on('timeout', () => { console.log('silent'); process.exit() }).on('error', (e) => { console.log(e.code); process.exit() })
  `
  const { stdout: route } = await other.exec('ip', 'route')
  const gateway = /default via (\S+)/.exec(route)?.[1] ?? ''
  t.match(gateway, /^100\./, 'the default route leads to the gateway network')
  for (const address of [gateway, n1.address, '169.254.77.1']) {
    const { stdout } = await other.exec('node', '-e', probe, address)
    t.not(stdout.trim(), 'open', `the control port at ${address}`)
  }
})

t.test('a megabyte passes whole, by name, between nodes', async (t) => {
  const web = await insideOf(cluster, 'ov-web')
  const [one, two] = [web.find(({ host }) => host === n1), web.find(({ host }) => host === n2)]
  if (!one || !two) throw new Error('no two nodes')
  const address = (await addressesOf(two)).find((each) => each.startsWith('10.')) ?? ''
  const receive = two.exec(
    'node',
    '-e',
    `const h = require('crypto').createHash('sha256'); let n = 0
     require('net').createServer((s) => s.on('data', (d) => { n += d.length; h.update(d) }).on('end', () => { s.end(n + ' ' + h.digest('hex')); process.exitCode = 0; setTimeout(() => process.exit(), 100) })).listen(9000)
     setTimeout(() => process.exit(1), 20000)`,
  )
  const sent = await cluster.waitFor(
    'it is sent',
    async () => {
      const { code, stdout } = await one.exec(
        'node',
        '-e',
        `const b = require('crypto').randomBytes(1 << 20); const s = require('net').connect(9000, process.argv[1], () => s.end(b))
         s.on('data', (d) => console.log(String(d) === b.length + ' ' + require('crypto').createHash('sha256').update(b).digest('hex') ? 'same' : 'different')).on('error', () => process.exit(1))`,
        address,
      )
      return code === 0 && stdout.trim()
    },
    WAIT_MS,
  )
  t.equal(sent, 'same')
  await receive
})

t.test('a container on three networks has an address on each, and reaches each', async (t) => {
  await network('ov-third', '--subnet', '10.77.99.0/24')
  const all = ['--network', 'ov-front', '--network', 'ov-other', '--network', 'ov-third']
  const three = first(await create('ov-three', 1, ...all, '--constraint', 'node.hostname==n2', 'hello:1'))
  const third = first(
    await create('ov-only', 1, '--network', 'ov-third', '--constraint', 'node.hostname==n3', 'hello:1'),
  )
  const addresses = await addressesOf(three)
  t.ok(addresses.some((address) => address.startsWith('10.77.99.')))
  for (const name of ['ov-web', 'ov-lonely', 'ov-only']) {
    const answer = await cluster.waitFor(`${name} answers`, () => fetchFrom(three, name), WAIT_MS)
    t.ok(answer.hostname, name)
  }
  const answer = await fetchFrom(third, 'ov-three')
  t.match(answer.client, /^10\.77\.99\./)
  await remove('ov-three', 'ov-only')
})

t.test('dual stack: names, virtual addresses and tasks of both families', async (t) => {
  await network('ov-dual', '--ipv6', '--subnet', '10.77.98.0/24', '--subnet', 'fd00:98::/64')
  const dual = await create('ov-six', 3, '--network', 'ov-dual', '--mode', 'global', 'hello:1')
  for (const family of [4, 6] as const) {
    const answer = await cluster.waitFor('it answers', () => fetchFrom(first(dual), 'ov-six', family), WAIT_MS)
    t.match(answer.client, family === 6 ? /^fd00:98:/ : /^10\.77\.98\./, `IPv${family}`)
  }
  const [one, two] = dual
  if (!one || !two) throw new Error('no two tasks')
  const six = (await addressesOf(two)).find((address) => address.startsWith('fd00:98:')) ?? ''
  t.equal((await fetchFrom(one, six, 6)).client.startsWith('fd00:98:'), true, 'task to task')
  await remove('ov-six')
})

t.test('an internal network has no way out', async (t) => {
  await network('ov-inner', '--internal')
  const inner = await create('ov-in', 2, '--network', 'ov-inner', '--replicas', '2', 'hello:1')
  const { stdout: routes } = await first(inner).exec('ip', 'route')
  t.notMatch(routes, /default/)
  t.ok((await fetchFrom(first(inner), 'ov-in')).hostname, 'inside it works')
  const lonely = first(await insideOf(cluster, 'ov-lonely'))
  const way = [lab.clientAddress, 'the client outside'] as const
  t.ok(await pings(lonely, way[0]), `an ordinary network leads to ${way[1]}`)
  t.notOk(await pings(first(inner), way[0]), `an internal one does not lead to ${way[1]}`)
  await remove('ov-in')
})

t.test('a link that is cut and mended', async (t) => {
  const web = await insideOf(cluster, 'ov-web')
  const [one, two] = [web.find(({ host }) => host === n2), web.find(({ host }) => host === n3)]
  if (!one || !two) throw new Error('no two nodes')
  const address = (await addressesOf(two)).find((each) => each.startsWith('10.')) ?? ''
  t.ok(await pings(one, address))
  await lab.cut('n2', 'n3')
  t.notOk(await pings(one, address), 'cut')
  await lab.heal()
  await cluster.waitFor('it passes again', () => pings(one, address), WAIT_MS)
})

t.test('50 tasks come and go on one /27, and every address is used again', async (t) => {
  await remove('ov-web', 'ov-lonely')
  await network('ov-small', '--subnet', '10.77.97.0/27')
  await cluster.docker(
    n1,
    ...['service', 'create', '-d', '--no-resolve-image', '--name', 'ov-round', '--network', 'ov-small'],
    ...['--replicas', '10', '--stop-grace-period', '1s', '--update-parallelism', '0', 'busybox'],
  )
  const seen = new Set<string>()
  for (let round = 0; round < 5; round++) {
    await cluster.waitFor(
      `10 tasks run in round ${round}`,
      async () => {
        const tasks = await cluster.api<
          readonly {
            ID: string
            Status: { State: string }
            Spec: { ForceUpdate?: number }
            NetworksAttachments?: readonly { Addresses: readonly string[] }[]
          }[]
        >(
          n1,
          'GET',
          `/tasks?filters=${encodeURIComponent(JSON.stringify({ service: ['ov-round'], 'desired-state': ['running'] }))}`,
        )
        const ready = tasks.filter((task) => task.Status.State === 'running' && (task.Spec.ForceUpdate ?? 0) === round)
        const addresses = ready.flatMap((task) => task.NetworksAttachments?.flatMap(({ Addresses }) => Addresses) ?? [])
        if (new Set(addresses).size !== addresses.length) throw new Error('an address twice')
        for (const address of addresses) seen.add(address)
        return ready.length === 10
      },
      WAIT_MS,
    )
    if (round < 4) await cluster.docker(n1, 'service', 'update', '-d', '--force', '--no-resolve-image', 'ov-round')
  }
  t.ok(seen.size > 20, `${seen.size} of the 28 addresses were in use`)
  const [one, two] = await insideOf(cluster, 'ov-round')
  if (!one || !two) throw new Error('no two tasks')
  const address = (await addressesOf(two)).find((each) => each.startsWith('10.77.97.')) ?? ''
  t.ok(await pings(one, address), 'an address that was used again is reached')
  await remove('ov-round')
})

t.test('networks go with their last service, and nothing of them stays on the nodes', async (t) => {
  await removeNetwork('ov-front', 'ov-other', 'ov-third', 'ov-dual', 'ov-inner', 'ov-small')
  await cluster.waitFor(
    'no engine has them',
    async () => {
      const lists = await Promise.all(lab.hosts.map((host) => host.docker(['network', 'ls', '--format', '{{.Name}}'])))
      return lists.every(({ stdout }) => !/ov-/.test(stdout))
    },
    WAIT_MS,
  )
  t.pass()
})
