// The page to vote on. A vote goes into a list in Redis, from which the worker takes it; a voter is a cookie, and may
// change their mind.
import { randomUUID } from 'node:crypto'
import { Redis } from './redis.mjs'
import { clientOf, options, self, send, serve, template } from './web.mjs'

const BODY_BYTES_MAX = 1_000
const page = template('vote.html')
const redis = new Redis({ host: process.env.REDIS_HOST || 'redis' })

serve(async (request, response) => {
  const { pathname } = new URL(request.url, 'http://vote')
  if (pathname !== '/') return send(response, 404, 'text/plain', 'There is nothing here.\n')
  const cookies = cookiesOf(request)
  if (request.method === 'POST') return take(request, response, cookies.voter ?? randomUUID())
  return show(request, response, 200, cookies.vote)
}).on('close', () => redis.close())

async function take(request, response, voter) {
  const choice = new URLSearchParams(await bodyOf(request)).get('vote')
  if (choice !== 'a' && choice !== 'b') return send(response, 400, 'text/plain', 'A vote is vote=a or vote=b.\n')
  try {
    await redis.command(['LPUSH', 'votes', JSON.stringify({ voter, choice, at: Date.now() })])
  } catch (error) {
    console.error(`a vote was not taken: ${error.message}`)
    return show(request, response, 503, undefined, 'Your vote could not be taken just now. Please vote again.')
  }
  console.log(`a vote for ${choice} from ${clientOf(request)}`)
  // seen after going back to the page, so that reloading it does not vote again
  const cookie = 'Path=/; HttpOnly; SameSite=Lax; Max-Age=31536000'
  send(response, 303, 'text/plain', 'Thank you.\n', {
    location: '/',
    'set-cookie': [`voter=${voter}; ${cookie}`, `vote=${choice}; ${cookie}`],
  })
}

function show(request, response, status, chosen, trouble) {
  const vote = chosen === 'a' || chosen === 'b' ? chosen : ''
  const body = page({
    optionA: options.a,
    optionB: options.b,
    vote,
    message: trouble ?? (vote && `Your vote: ${options[vote]}. You may change it.`),
    client: clientOf(request),
    ...self,
  })
  send(response, status, 'text/html', body)
}

function cookiesOf(request) {
  const pairs = (request.headers.cookie ?? '').split(/;\s*/).map((pair) => pair.split('='))
  const { voter, vote } = Object.fromEntries(pairs)
  return { voter: /^[\w-]{1,64}$/.test(voter ?? '') ? voter : undefined, vote }
}

async function bodyOf(request) {
  let body = ''
  for await (const chunk of request) {
    body += chunk
    if (body.length > BODY_BYTES_MAX) throw new Error('the body is too long')
  }
  return body
}
