// The page's behaviour: sends a wish, and shows what comes back line by line.

const at = (id) => document.getElementById(id)
const form = at('wish')
const FIGURES = {
  bytes_up: bytes, bytes_down: bytes, requests: (n) => String(n),
  seconds: (s) => `${s.toFixed(2)} s`, client_s: (s) => `${s.toFixed(2)} s`,
}
const IDLE = at('progress').textContent
let steps = [] // of the last drawing: {picture, words, shown, views}
let chosen = 0

function bytes(count) {
  return count >= 1e6 ? `${(count / 1e6).toFixed(1)} MB` : `${(count / 1e3).toFixed(0)} kB`
}

function element(name, properties = {}, children = []) {
  const made = Object.assign(document.createElement(name), properties)
  made.append(...children)
  return made
}

async function prepare() {
  const about = await (await fetch('/about')).json()
  const { sizes, colours, shapes, relations } = about.words
  at('words').textContent = `The model knows ${sizes.join(', ')}; ${colours.join(', ')}; ${shapes.join(', ')}; `
    + `${relations.join(', ')}; "on a ... background".`
  at('prompt').maxLength = about.longest_prompt
  for (const name of ['steps', 'guidance']) {
    [at(name).min, at(name).max, at(name).value] = about[name]
  }
  [at('seed').min, at('seed').max] = about.seeds
  for (const caption of about.examples) {
    const button = element('button', { type: 'button', textContent: caption })
    button.addEventListener('click', () => { at('prompt').value = caption; at('prompt').focus() })
    at('examples').append(button)
  }
  for (const input of form.policy) {
    input.disabled = !about.policies.includes(input.value)
  }
  if (about.server) {
    at('policy-note').textContent = `${about.server} serves the model for strict alone.`
    at('policy-note').hidden = false
  }
}

function policyChanged() {
  const seeded = form.policy.value === 'strict'
  at('seed').disabled = !seeded
  at('seed-note').hidden = seeded
}

function choose(step) {
  chosen = step
  for (const [place, button] of [...at('strip').children].entries()) {
    button.setAttribute('aria-pressed', String(place === step))
  }
  const { picture, words, shown } = steps[step]
  const where = `step ${step + 1} of ${steps.of}`
  showPicture('here', picture, `The picture after ${where}`)
  showPicture('there', words, `The bytes of the request with the latent of ${where}, as colours: noise`)
  at('sent').hidden = !shown
  at('there-note').textContent = shown ? 'ciphertext, and in the clear what is below' : "the request's bytes, as colours"
  if (shown) {
    at('sent-picture').src = shown.picture
    at('sent-picture').alt = 'Channels that were sent in the clear, as grey tiles; the others are hatched'
    at('sent-sentence').textContent = shown.sentence
  }
  showViews()
}

function showPicture(id, address, text) {
  Object.assign(at(id), { src: address, alt: text, hidden: false })
}

function showViews() {
  at('views').hidden = !at('others').checked
  const views = steps[chosen]?.views
  at('view-list').replaceChildren(...(views ? Object.entries(views).map(([name, view]) => {
    const picture = view.picture
      ? element('img', { src: view.picture, className: 'hatched', alt: `What ${name} would have shown; hatched is encrypted` })
      : element('div', { className: 'none hatched' })
    const caption = element('figcaption', {}, [element('b', { textContent: name }), view.sentence])
    return element('figure', {}, [picture, caption])
  }) : [element('p', { className: 'hint', textContent: steps.length ? 'Still being computed.' : 'Draw a picture first.' })]))
}

const HAPPENS = {
  traffic(record) {
    for (const [name, text] of Object.entries(FIGURES)) at(name).textContent = text(record[name])
  },
  step(record) {
    steps.of = record.of
    steps.push(record)
    const images = element('span', {}, [element('img', { src: record.picture, alt: '' }), element('img', { src: record.words, alt: '' })])
    const button = element('button', { type: 'button' }, [images, `step ${record.step}`])
    const place = steps.length - 1
    button.addEventListener('click', () => choose(place))
    at('strip').append(button)
    at('strip').scrollLeft = at('strip').scrollWidth
    choose(place)
    at('progress').textContent = `Step ${record.step} of ${record.of} is drawn.`
  },
  finished(record) {
    HAPPENS.traffic(record)
    steps.drawing = record.drawing
    at('progress').textContent = `The picture is there, after ${steps.length} step${steps.length === 1 ? '' : 's'}.`
    at('sentence').textContent = record.sentence
    at('sentence').hidden = false
  },
  view(record) {
    const step = steps[record.step - 1]
    step.views = { ...step.views, [record.policy]: record }
    if (record.step - 1 === chosen) showViews()
  },
  note(record) {
    at('note').textContent = `One moment: ${record.message}.`
  },
  failed(record) {
    throw new Error(record.message)
  },
}

async function draw() {
  const strict = form.policy.value === 'strict'
  const wish = {
    prompt: at('prompt').value, policy: form.policy.value, steps: at('steps').valueAsNumber,
    guidance: at('guidance').valueAsNumber, ...(strict ? { seed: at('seed').valueAsNumber } : {}),
  }
  await ask('/draw', wish, restart)
  if (at('others').checked) await askOthers()
}

async function askOthers() {
  if (steps.drawing && !steps.asked) {
    steps.asked = true
    await ask('/others', { drawing: steps.drawing })
  }
}

async function ask(path, wish, begin = () => {}) {
  let answer
  try {
    answer = await fetch(path, { method: 'POST', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify(wish) })
  } catch {
    throw new Error('the command behind this page has ended: start hecompile demo again, and open the address that it prints')
  }
  if (!answer.ok) throw new Error((await answer.json()).error)
  begin()
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader()
  let rest = ''
  for (;;) {
    const { value, done } = await reader.read()
    if (done) break
    const lines = (rest + value).split('\n')
    rest = lines.pop()
    for (const line of lines) {
      const record = JSON.parse(line)
      if (record.event !== 'note') at('note').textContent = ''
      HAPPENS[record.event](record)
    }
  }
}

function restart() {
  if (matchMedia('(max-width: 48rem)').matches) at('drawing').scrollIntoView()
  steps = []
  chosen = 0
  at('strip').replaceChildren()
  for (const id of ['here', 'there', 'sentence', 'sent']) at(id).hidden = true
  for (const name of Object.keys(FIGURES)) at(name).textContent = '-'
  at('progress').textContent = 'Drawing.'
  showViews()
}

async function busily(work) {
  at('message').textContent = ''
  at('draw').disabled = true
  at('draw').textContent = 'Drawing'
  at('others').disabled = true
  at('drawing').setAttribute('aria-busy', 'true')
  try {
    await work()
  } catch (error) {
    const text = error.message
    at('message').textContent = `${text.charAt(0).toUpperCase()}${text.slice(1)}${text.endsWith('.') ? '' : '.'}`
    at('note').textContent = ''
    if (!steps.drawing && at('progress').textContent !== IDLE) at('progress').textContent = 'The drawing was not finished.'
  } finally {
    at('draw').disabled = false
    at('draw').textContent = 'Draw'
    at('others').disabled = false
    at('drawing').removeAttribute('aria-busy')
  }
}

form.addEventListener('submit', (event) => { event.preventDefault(); busily(draw) })
form.addEventListener('change', policyChanged)
at('others').addEventListener('change', () => { showViews(); if (at('others').checked) busily(askOthers) })
at('prompt').addEventListener('keydown', (event) => {
  if (event.key === 'Enter' && !event.shiftKey) {
    event.preventDefault()
    form.requestSubmit()
  }
})
policyChanged()
prepare()
