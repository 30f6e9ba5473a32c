/**
 * The exercises of the course "Docker Mastery" on Swarm, typed as its students type them, in turns by docker and swarmctl, with
 * its own stack files. Images of the same names stand for the real ones.
 */
import { cpSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Test } from 'tap'
import type { LabHost } from '../../../lab/lab-host.ts'
import { projectRoot } from '../../../lab/layout.ts'
import { must } from '../../../lab/run.ts'
import type { Cluster } from './cluster.ts'

const WAIT_MS = 120_000
const files = join(projectRoot, 'test/cli/compose-stacks')
/** Image: what stands for it, and what it has beyond that. The pages and the worker find a database that trusts everyone. */
const IMAGES: Readonly<Record<string, string>> = {
  'bretfisher/examplevotingapp_vote': 'FROM voting-vote:1',
  'bretfisher/examplevotingapp_result': 'FROM voting-result:1\nENV DB_PASSWORD_FILE=/dev/null',
  'bretfisher/examplevotingapp_worker': 'FROM voting-worker:1\nENV DB_PASSWORD_FILE=/dev/null',
  'redis:3.2': 'FROM redis:alpine',
  'postgres:9.4': 'FROM postgres:15-alpine',
  'postgres:9.6': 'FROM postgres:15-alpine',
  'postgres:14': 'FROM postgres:15-alpine',
  'postgres:latest': 'FROM postgres:15-alpine',
  'custom-drupal:latest': 'FROM hello:1\nENV PORT=80',
}

/** What the exercises type and look at. */
function student(cluster: Cluster) {
  const { lab } = cluster
  const first = cluster.manager()
  const workers = lab.hosts.filter((host) => host !== first)
  /** A line as it is typed: words are separated by one blank. @throws unless it succeeds */
  const docker = (line: string) => cluster.docker(first, ...line.split(' '))
  const swarmctl = async (line: string) => {
    const { code, stdout, stderr } = await first.swarmctl(line.split(' '), { timeoutMs: WAIT_MS })
    if (code !== 0) throw new Error(`swarmctl ${line}: ${code} ${stderr}`)
    return stdout
  }
  const until = (what: string, fact: () => Promise<unknown>) =>
    cluster.waitFor(what, async () => Boolean(await fact()), WAIT_MS)
  const url = (host: LabHost, port: number, path = '') => `http://${host.address}:${port}/${path}`
  const get = (host: LabHost, port: number, path = '') =>
    must(lab.clientArgv(['curl', '-sS', '--fail', '--max-time', '10', url(host, port, path)]))
  const refuses = async (host: LabHost, port: number) =>
    (await lab.client(['curl', '-s', '--max-time', '5', url(host, port)])).code === 7

  const running = (expected: Readonly<Record<string, string>>) =>
    until(`these run: ${JSON.stringify(expected)}`, async () => {
      const lines = (await swarmctl('service ls --format {{.Name}}={{.Replicas}}')).trim().split('\n')
      const missing = Object.entries(expected).filter(([name, replicas]) => !lines.includes(`${name}=${replicas}`))
      if (missing.length > 0) throw new Error(lines.join(' '))
      return true
    })
  /** The hosts of a service's tasks that run, sorted. */
  const placed = async (service: string) =>
    (await docker(`service ps --filter desired-state=running --format {{.Node}} ${service}`))
      .trim()
      .split('\n')
      .toSorted()
  /** Runs a command in a task of the service. */
  const inTask = (service: string, script: string) =>
    cluster.swarmctl(first, 'exec', `${service}.1`, '--', 'sh', '-c', script)
  const votesAreCounted = async (votePort: number, resultPort: number) => {
    const ballot = (host: LabHost) => [
      'curl',
      '-sS',
      '--fail',
      '--max-time',
      '10',
      '--data',
      'vote=b',
      url(host, votePort),
    ]
    for (const host of lab.hosts) {
      await until(`${host.name} takes a vote`, async () => must(lab.clientArgv(ballot(host))))
    }
    await until('the votes are counted', async () => {
      const { b } = JSON.parse(await get(first, resultPort, 'counts')) as { b: number }
      return b >= lab.hosts.length
    })
  }
  return { docker, swarmctl, until, get, refuses, running, placed, inTask, votesAreCounted, lab, first, workers }
}

/** To be first. */
function makeImages(t: Test, { lab }: Cluster): void {
  t.test('the course: images of its names', async () => {
    await Promise.all(
      lab.hosts.map(async (host) => {
        for (const [name, dockerfile] of Object.entries(IMAGES)) {
          const build = ['build', '-q', '-t', name, '-']
          const { code, stderr } = await host.docker(build, { input: dockerfile, env: { DOCKER_BUILDKIT: '0' } })
          if (code !== 0) throw new Error(stderr)
        }
      }),
    )
  })
}

/**
 * Adds tests to `t`. The lab has the images of the voting app, one manager and two workers, and nothing runs on it, before and
 * afterwards.
 */
export function courseByCommands(t: Test, cluster: Cluster): void {
  const { docker, swarmctl, until, get, refuses, running, inTask, votesAreCounted, lab, first } = student(cluster)
  makeImages(t, cluster)

  t.test('the course: the voting app by commands', async () => {
    await docker('network create --driver overlay backend')
    await swarmctl('network create -d overlay frontend')
    const [vote, result, worker] = ['vote', 'result', 'worker'].map((name) => `bretfisher/examplevotingapp_${name}`)
    const db = '--mount type=volume,source=db-data,target=/var/lib/postgresql/data postgres:9.4'
    const pace = '--update-monitor 1s --rollback-monitor 1s --update-parallelism 3 --rollback-parallelism 3'
    await docker(`service create -d --name vote -p 80:80 --network frontend --replicas 2 ${pace} ${vote}`)
    await swarmctl('service create -d --name redis --network frontend redis:3.2')
    await docker(`service create -d --name db --network backend -e POSTGRES_HOST_AUTH_METHOD=trust ${db}`)
    await swarmctl(`service create -d --name worker --network frontend --network backend ${worker}`)
    await docker(`service create -d --name result --network backend -p 5001:80 ${result}`)
    await running({ vote: '2/2', redis: '1/1', db: '1/1', worker: '1/1', result: '1/1' })
    await votesAreCounted(80, 5001)
  })

  t.test('the course: environment and ports in one command', async (t) => {
    const ports = '--publish-rm 80 --publish-add 9090:80'
    await docker(`service update -q --env-add OPTION_A=Dogs ${ports} vote`)
    for (const host of lab.hosts) {
      await until(`${host.name} has the new port alone`, () => refuses(host, 80))
      t.match(await get(host, 9090), /Dogs/)
    }
  })

  t.test('the course: an update whose tasks do not become healthy is taken back, and nobody notices', async (t) => {
    const health = '--health-cmd ./healthy --health-interval 500ms --health-retries 1'
    await docker(`service update -q ${health} --health-start-period 60s --update-order start-first vote`)
    const broken = '--image voting-vote:broken --health-start-period 0s --update-failure-action rollback'
    const { code, stderr } = await first.swarmctl(`service update -q ${broken} vote`.split(' '), { timeoutMs: WAIT_MS })
    t.equal(code, 1)
    t.match(stderr, /^service update rolled back: update rolled back due to failure or early termination of task \w+/m)
    t.equal(
      await docker('service inspect -f {{.Spec.TaskTemplate.ContainerSpec.Image}} vote'),
      'bretfisher/examplevotingapp_vote:latest\n',
    )
    await running({ vote: '2/2' })
    await votesAreCounted(9090, 5001)
    await swarmctl('service rm vote redis db worker result')
    for (const network of ['frontend', 'backend']) {
      await until(`${network} is free`, () => docker(`network rm ${network}`))
    }
  })

  t.test('the course: secrets by commands and from files', async (t) => {
    await docker(`secret create psql_user ${files}/psql_user.txt`)
    const { stdout } = await first.swarmctl(['secret', 'create', 'psql_pass', '-'], { input: 'myDBpassWORD\n' })
    t.match(stdout, /^\w{25}\n$/)
    const env = '-e POSTGRES_PASSWORD_FILE=/run/secrets/psql_pass -e POSTGRES_USER_FILE=/run/secrets/psql_user'
    await docker(`service create -d --name psql --secret psql_user --secret psql_pass ${env} postgres`)
    await swarmctl(`stack deploy -c ${files}/course-secrets-sample-2-docker-compose.yml mydb --timeout 120s`)
    await running({ psql: '1/1', mydb_psql: '1/1' })
    t.match(await inTask('psql', 'cat /run/secrets/psql_user /run/secrets/psql_pass'), /\S\nmyDBpassWORD\n$/)
    for (const service of ['psql', 'mydb_psql']) {
      const select = 'psql -tA -U "$(cat /run/secrets/psql_user)" -c "select current_user"'
      await until(`${service} knows its user`, async () => /psql_user/.test(await inTask(service, select)))
    }
    t.match(await docker('secret ls --format {{.Name}}'), /mydb_psql_password\nmydb_psql_user\npsql_pass\npsql_user/)
    const held = await first.docker(['secret', 'rm', 'psql_user'], { to: 'swarmd' })
    t.match(held, { code: 1, stderr: /secret 'psql_user' is in use by the following service: psql/ })
    await docker('service rm psql')
    await swarmctl('stack rm mydb')
    t.notMatch(await docker('secret ls --format {{.Name}}'), /mydb/, 'those of the stack go with it')
  })
}

/** As `courseByCommands`: what takes longer. */
export function courseByStacks(t: Test, cluster: Cluster): void {
  const { docker, swarmctl, until, get, running, placed, inTask, votesAreCounted, lab, first, workers } =
    student(cluster)
  makeImages(t, cluster)

  t.test('the course: several are scaled at once; --force spreads them again', async (t) => {
    const pace = '--update-monitor 1s --update-parallelism 3'
    for (const name of ['web', 'api']) await docker(`service create -d --name ${name} ${pace} hello:1`)
    t.match(await docker('service scale -d web=3 api=2'), /web scaled to 3\napi scaled to 2/)
    await running({ web: '3/3', api: '2/2' })
    await swarmctl('node update --availability drain n3')
    await until('n3 is empty', async () => /^(n[12],?){3}$/.test((await placed('web')).join()))
    await docker('node update --availability active n3')
    await running({ web: '3/3', api: '2/2' })
    t.notOk((await placed('web')).includes('n3'), 'what runs stays where it is')
    await swarmctl('service update -q --force web')
    t.equal((await placed('web')).join(), 'n1,n2,n3')
    await docker('service rm web api')
  })

  t.test('the course: placement by labels and roles, from its stack file', async (t) => {
    await docker('node update --label-add ssd=true n2')
    await docker(`stack deploy -c ${files}/course-stack-4-answer-voting-app-placement.yml voteapp`)
    await running({ voteapp_vote: '2/2', voteapp_redis: '1/1', voteapp_db: '1/1', voteapp_worker: '2/2' })
    t.same(await placed('voteapp_db'), ['n2'])
    t.same(
      await placed('voteapp_vote'),
      workers.map(({ name }) => name),
    )
    t.same(
      await placed('voteapp_worker'),
      workers.map(({ name }) => name),
    )
    await votesAreCounted(5000, 5001)
    await swarmctl('node update --label-rm ssd n2')
    await until('and says why', async () =>
      /no suitable node \(scheduling constraints/.test(await docker('service ps --no-trunc voteapp_db')),
    )
    await swarmctl('stack rm voteapp')
  })

  t.test('the course: development, test and production from merged files', async (t) => {
    const folder = mkdtempSync(join(tmpdir(), 'swarmctl-e2e-course-'))
    t.teardown(() => rmSync(folder, { recursive: true, force: true }))
    cpSync(files, folder, { recursive: true })
    for (const mounted of ['themes', 'sample-data']) mkdirSync(join(folder, mounted))
    const merged = (which: string) =>
      `-c ${folder}/course-stack-3-docker-compose.yml -c ${folder}/course-stack-3-docker-compose.${which}.yml`
    const refused = await first.swarmctl(`stack deploy ${merged('prod')} prod`.split(' '))
    t.match(
      refused,
      { code: 1, stderr: /secret not found: psql-pw|"psql-pw" .*not found/ },
      'production brings no secret',
    )
    await first.swarmctl(['secret', 'create', 'psql-pw', '-'], { input: 'of production' })

    await docker(`stack deploy ${merged('override')} dev`)
    await swarmctl(`stack deploy ${merged('test')} test`)
    await running({ dev_drupal: '1/1', dev_postgres: '1/1', test_drupal: '1/1', test_postgres: '1/1' })
    const secret = (stack: string) => inTask(`${stack}_postgres`, 'cat $POSTGRES_PASSWORD_FILE')
    t.equal((await secret('dev')).trim(), (await secret('test')).trim())
    t.match(await inTask('dev_drupal', 'mount'), / on \/var\/www\/html\/themes /, 'the folder beside the file')
    for (const host of lab.hosts) {
      t.match(await get(host, 8080), /^hello/, 'development')
      t.match(await get(host, 80), /^hello/, 'test')
    }
    await docker('stack rm test')
    await swarmctl(`stack deploy ${merged('prod')} prod --timeout 120s`)
    t.equal(await secret('prod'), 'of production')
    for (const host of lab.hosts) t.match(await get(host, 80), /^hello/, 'production')
    await swarmctl('stack rm --volumes dev prod test')
  })
}
