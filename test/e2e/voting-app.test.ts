// The voting app of compose-examples on three hosts: its services find each other by name over two networks, its pages are
// reached through every node and know who came, and a person sees in a browser what became of the votes. Then, on the same
// hosts, the course's exercises.

import { join } from 'node:path'
import t from 'tap'
import { Lab } from '../../lab/lab.ts'
import type { LabHost } from '../../lab/lab-host.ts'
import { defaultLabDir, projectRoot, SUBNET_PREFIX_LENGTH } from '../../lab/layout.ts'
import { must } from '../../lab/run.ts'
import { Browser } from './support/browser.ts'
import { Cluster } from './support/cluster.ts'
import { courseByCommands } from './support/course.ts'
import { FILE_TIMEOUT_MS } from './support/shared-lab.ts'

const WAIT_MS = 120_000
const STACK = 'voting'
const VOTE_PORT = 5000
const RESULT_PORT = 5001
const stackFile = join(projectRoot, 'compose-examples/voting-app/docker-stack.yml')
/** Looked at by people; not part of the test's result. */
const pictures = join(projectRoot, '.build/screenshots')

const own = { name: 'e2evote', dir: defaultLabDir('e2evote') }
t.setTimeout(FILE_TIMEOUT_MS)
t.teardown(() => Lab.down(own))
const log = (line: string): void => t.comment(line)
const lab = await Lab.up({ ...own, managers: 1, workers: 2, images: 'voting-app', log })
const cluster = await Cluster.form(lab)
const first = cluster.manager()

interface Seen {
  readonly task: string
  readonly client: string
}

interface Counts {
  readonly a: number
  readonly b: number
}

const url = (host: LabHost, port: number, path = ''): string => `http://${host.address}:${port}/${path}`
/** On the client, which is no host of the cluster. @throws unless it is answered with success. */
const curl = (...args: readonly string[]): Promise<string> =>
  must(lab.clientArgv(['curl', '-sS', '--fail', '--max-time', '10', ...args]))

/** What the page says of who answered, and of where the question came from. */
async function visit(host: LabHost, port: number, from: string): Promise<Seen> {
  const page = await curl('--interface', from, url(host, port))
  const part = (id: string) => new RegExp(`id="${id}">([^<]*)<`).exec(page)?.[1] ?? `no ${id} in ${page}`
  return { task: part('task'), client: part('client') }
}

const vote = (host: LabHost, choice: 'a' | 'b') => curl('--data', `vote=${choice}`, url(host, VOTE_PORT))
const counts = async (host: LabHost): Promise<Counts> =>
  JSON.parse(await curl(url(host, RESULT_PORT, 'counts'))) as Counts

/** Waits until the result page counts so many, and looks once more whether it stays so. */
async function counted(a: number, b: number): Promise<void> {
  for (let i = 0; i < 2; i++) {
    await cluster.waitFor(
      `${a} and ${b} votes are counted`,
      async () => {
        const now = await counts(first)
        if (now.a !== a || now.b !== b) throw new Error(`they are ${now.a} and ${now.b}`)
        return true
      },
      WAIT_MS,
    )
  }
}

/** Runs a command in a service's container, wherever that is. */
async function inTask(service: string, ...argv: readonly string[]): Promise<string> {
  for (const host of lab.hosts) {
    const { stdout } = await host.docker(['ps', '-q', '--filter', `label=com.docker.swarm.service.name=${service}`])
    const [id] = stdout.trim().split('\n')
    if (id) {
      const { stdout: said, stderr } = await host.docker(['exec', id, ...argv])
      return said + stderr
    }
  }
  throw new Error(`${service} runs nowhere`)
}

t.test('it is deployed from the stack file, and every task comes to run', async (t) => {
  const { code, stderr } = await first.swarmctl(['stack', 'deploy', '--compose-file', stackFile, STACK], {
    env: { DB_NODE: 'node.hostname == n1' },
    timeoutMs: WAIT_MS,
  })
  if (code !== 0) throw new Error(stderr)
  await cluster.waitFor(
    'every replica runs',
    async () => {
      const listed = await cluster.swarmctl(first, 'stack', 'services', '--format', '{{.Name}} {{.Replicas}}', STACK)
      if (
        !/^voting_db 1\/1\nvoting_redis 1\/1\nvoting_result 1\/1\nvoting_vote 2\/2\nvoting_worker 1\/1$/.test(
          listed.trim(),
        )
      )
        throw new Error(listed)
      return true
    },
    WAIT_MS,
  )
  const networks = await cluster.swarmctl(first, 'network', 'ls', '--format', '{{.Name}} {{.Driver}} {{.Scope}}')
  t.match(networks, /^voting_backend overlay swarm$/m)
  t.match(networks, /^voting_frontend overlay swarm$/m)
  await cluster.waitFor('it counts nothing yet', async () => (await counts(first)).a === 0, WAIT_MS)
})

t.test('through every node, every replica answers, and sees the address of whoever asks', async (t) => {
  const addresses = [201, 202, 203].map((last) => lab.clientAddress.replace(/\d+$/, String(last)))
  for (const address of addresses) {
    await must(lab.clientArgv(['ip', 'addr', 'add', `${address}/${SUBNET_PREFIX_LENGTH}`, 'dev', 'eth0']))
  }
  t.teardown(async () => {
    for (const address of addresses) {
      await must(lab.clientArgv(['ip', 'addr', 'del', `${address}/${SUBNET_PREFIX_LENGTH}`, 'dev', 'eth0']))
    }
  })
  for (const [index, host] of lab.hosts.entries()) {
    const from = addresses[index] ?? lab.clientAddress
    // it is told of a task that has just become healthy a moment later
    await cluster.waitFor(
      `${host.name} sends visitors to both replicas in turn`,
      async () => {
        const pages = await Promise.all([1, 2, 3, 4].map(() => visit(host, VOTE_PORT, from)))
        t.strictSame(
          new Set(pages.map(({ client }) => client)),
          new Set([from]),
          `${host.name}: the client's own address`,
        )
        const tasks = pages.map(({ task }) => task).toSorted()
        if (tasks.join() !== 'voting_vote.1,voting_vote.1,voting_vote.2,voting_vote.2') throw new Error(tasks.join(' '))
        return true
      },
      WAIT_MS,
    )
    const result = await visit(host, RESULT_PORT, from)
    t.strictSame(result, { task: 'voting_result.1', client: from }, `${host.name}: the result page`)
  }
})

t.test('a vote that is cast through any node is counted, and seen through any node', async (t) => {
  for (const host of lab.hosts) {
    await vote(host, 'a')
    await vote(host, 'b')
    await vote(host, 'a')
  }
  await counted(6, 3)
  for (const host of lab.hosts) t.match(await counts(host), { a: 6, b: 3 }, host.name)
})

t.test('in a browser: a click on one page moves the other, and a change of mind moves it back', async (t) => {
  const browser = await Browser.start(lab.clientArgv([]))
  t.teardown(() => browser.close())
  const [one, two, three] = lab.hosts
  if (!one || !two || !three) throw new Error('three hosts are needed')
  const result = await browser.open(url(three, RESULT_PORT))
  t.match(
    await result.text('main'),
    /Tea or Coffee\?\s+Tea\s+67 %\s*6 for Tea\s+Coffee\s+33 %\s*3 for Coffee\s+9 votes · Live/,
  )

  const page = await browser.open(url(two, VOTE_PORT))
  t.match(await page.text('footer'), `You come from ${lab.clientAddress}.`)
  await page.screenshot(join(pictures, 'vote.png'))
  await page.click('button.b')
  await page.until(
    'the vote is confirmed',
    `document.querySelector('[role=status]').innerText.includes('Your vote: Coffee')`,
  )
  await page.screenshot(join(pictures, 'vote-coffee.png'))
  await result.until('the result page shows it by itself', `document.querySelector('#b').innerText === '4'`)
  t.match(await result.text('main'), /60 %\s*6 for Tea\s+Coffee\s+40 %\s*4 for Coffee\s+10 votes/)
  await result.screenshot(join(pictures, 'result.png'))

  await page.click('button.a')
  await page.until(
    'the change is confirmed',
    `document.querySelector('[role=status]').innerText.includes('Your vote: Tea')`,
  )
  await result.until('the result page follows', `document.querySelector('#a').innerText === '7'`)
  t.match(
    await result.text('main'),
    /70 %\s*7 for Tea\s+Coffee\s+30 %\s*3 for Coffee\s+10 votes/,
    'one voter, one vote',
  )

  await result.look({ scheme: 'dark', width: 380 })
  await result.screenshot(join(pictures, 'result-dark-phone.png'))
  t.equal(
    await result.evaluate('document.documentElement.scrollWidth <= document.documentElement.clientWidth'),
    true,
    'nothing is cut off on a phone',
  )
})

t.test('names are those of the networks that a service is on', async (t) => {
  t.match(await inTask(`${STACK}_vote`, 'nslookup', 'redis'), /Address.*10\./)
  t.notMatch(await inTask(`${STACK}_vote`, 'nslookup', 'db'), /Address.*10\./, 'vote is not on the backend')
  t.match(await inTask(`${STACK}_worker`, 'nslookup', 'redis'), /Address.*10\./)
  t.match(await inTask(`${STACK}_worker`, 'nslookup', 'db'), /Address.*10\./)
})

t.test('votes that are cast while no worker runs wait, and are counted when one comes', async () => {
  await cluster.swarmctl(first, 'service', 'scale', `${STACK}_worker=0`)
  for (const host of lab.hosts) await vote(host, 'b')
  await cluster.swarmctl(first, 'service', 'scale', '--detach', `${STACK}_worker=1`)
  await counted(7, 6)
})

t.test('the database moves nowhere without its data: its task is replaced, and the counts are the same', async () => {
  await cluster.swarmctl(first, 'service', 'update', '--force', '--update-monitor', '1s', `${STACK}_db`)
  await vote(first, 'a')
  await counted(8, 6)
})

t.test('taken away, it leaves no port, no network and no container', async (t) => {
  await cluster.reset(STACK)
  for (const host of lab.hosts) {
    const { code } = await lab.client(['curl', '-s', '--max-time', '5', url(host, VOTE_PORT)])
    t.equal(code, 7, `${host.name} refuses`)
    await cluster.waitFor(
      `${host.name} has none of its networks`,
      async () => !(await host.docker(['network', 'ls', '--format', '{{.Name}}'])).stdout.includes(STACK),
      WAIT_MS,
    )
  }
})

courseByCommands(t, cluster)
