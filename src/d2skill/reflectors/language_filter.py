"""Tells a text in another language from one in a known language, by its letters and its most frequent words.

It is made to be wrong in one direction only: a text counts as foreign where its words speak clearly for a language that
is neither English, in which the reflector is asked, nor a language of what the reflector was shown. Names, lists of
things and short texts speak for no language, and so are never foreign. Languages without a list here are only told by
their script.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Collection
from functools import lru_cache

_LEAST = 3  # words that speak for another language
_LEAST_SHOWN = 2  # words that a text shown has beyond those of a language in which it is not
_SHARE_SHOWN = 0.1  # of its words at least are those
_MARGIN = 2  # times as many as those that speak for a known one
_MINOR = 4  # a language of a text has at least one word of its own for so many of the main one's
_MINOR_SCRIPT = 0.05  # a script of a text has at least this share of its letters

_WORD = re.compile(r"[^\W\d_]+")
_BEGINS = re.compile(r"(?:\A|[.!?:;。\n])\W*\Z")

# Of a language the words that hardly any text does without, and those in which advice is given: open, take, first,
# before. Of English also words that are spelled as another language's are (bin, die, pan), so that they count for it.
_TEXTS = {
    "en": "about above across after again against all almost along already also although always am among an and "
    "another any anything are art as ask at avoid away back be became because been before began begin behind being "
    "below best better between bin both bought bring but buy by call came can cannot care carry case check choose "
    "clean click close color come compare cool could cut day den did die different do does doing don done door down "
    "dress drop during each early easily either else empty end enough enter even ever every everything except fast "
    "fat few final finally find first fit fly for found four free fresh from full further game gave get gift give go "
    "goes going good got great had hand hard has hat have he heat held help her here hers high him his hold home hot "
    "how however if in inside instead into is it item items its itself just keep key kind know large last late later "
    "least leave left less let light like list little long look looking looks made main make makes making man many "
    "match matches may me mean men might mine more most move much must my near need needs never new next no none nor "
    "not nothing now of off often old on once one only onto open or order other others otherwise our out over own "
    "page pan part past perform pick place places plan play please pour price product put quite rather read red "
    "remember return right room round run safe said same save saw say search second see seen select sell set several "
    "shall she should show side since size small so some something sore soon spot start state step still stop such "
    "sun sur take takes taking tell ten than that the their them then there therefore these they thing things this "
    "those though three through thus time to together ton toes too took top toward towards try turn two type under "
    "unless until up upon us use used uses using very via visit wait want war was wash watch water way we well went "
    "were what when where whether which while who whole whom whose why wide will with within without word words work "
    "would yes yet you your",
    "es": "el la los las un una unos unas de del al en con por para sin sobre entre hasta desde hacia antes después "
    "luego primero ya no ni que qué si como cómo cuando cuándo donde dónde quien cual pero porque pues también solo "
    "sólo muy más menos mucho poco todo toda todos todas cada otro otra otros otras mismo misma este esta esto estos "
    "estas ese esa eso esos esas aquel es son está están ser estar hay había haber tiene tienen tener hacer haz debe "
    "debes puede puedes se te le les lo me su sus tu tus nos nunca siempre mientras aunque aún así entonces dentro "
    "fuera debajo encima cerca lejos ahora aquí allí algo nada nadie alguno ningún ninguna abre abrir busca buscar "
    "toma tomar coge pon poner ve lleva deja usa mira revisa comprueba compra elige haga quieres necesitas cuyo sido "
    "fue será sea vez lugar veces nuevo nueva mejor",
    "pt": "os as um uma uns umas de do da dos das ao aos à às em no na nos nas num numa com por pelo pela para sem "
    "sobre entre até desde antes depois primeiro já não nem que se como quando onde quem qual mas porque pois também "
    "só muito muita mais menos pouco todo toda todos todas tudo cada outro outra outros outras mesmo mesma este esta "
    "isto esse essa isso aquele aquela é são está estão ser estar há tem têm ter fazer faça deve devem pode podem lhe "
    "te me seu sua seus suas ele ela eles elas você nunca sempre enquanto embora ainda assim então dentro fora "
    "embaixo cima perto longe agora aqui ali algo nada ninguém algum alguma nenhum nenhuma abra abrir procure "
    "procurar pegue pegar coloque ponha vá leve deixe use veja olhe verifique compre escolha quer precisa foi será "
    "seja sido pelos pelas deste desta neste nesta desse dessa nesse nessa dele dela novo nova seguinte lugar lugares "
    "vez vezes mesmos tais comece lave volte leia",
    "fr": "le la les un une des du de au aux en dans avec par pour sans sous sur entre vers chez avant après puis "
    "ensuite déjà ne pas ni que qui quoi quand où comme comment mais ou et donc car parce aussi seulement très plus "
    "moins beaucoup peu tout toute tous toutes chaque autre autres même ce cet cette ces cela ceci ça est sont être "
    "était avoir avez ont il elle ils elles on nous vous se te me lui leur leurs son sa ses ton ta tes votre vos "
    "notre nos jamais toujours pendant lorsque si alors ainsi dedans dehors dessous dessus près loin maintenant ici "
    "là rien personne aucun aucune quelque faire fais faites fait doit doivent peut peux faut ouvre ouvrez ouvrir "
    "cherche cherchez prends prenez prendre mets mettez pose posez va allez vérifie vérifiez regarde achète achetez "
    "choisis choisissez clique cliquez quel quelle qu afin dès jusqu lorsqu été sera soit nouveau nouvelle fois "
    "endroit mieux celui celle ceux utilise revient sinon",
    "it": "il lo la gli le un uno una di del dello della dei degli delle dell al allo alla ai agli alle nel nello "
    "nella nei negli nelle nell sul sullo sulla sui sulle sull dal dallo dalla dai dalle dall con per tra fra senza "
    "sopra sotto dentro fuori prima dopo poi già non né che chi cosa come quando dove quale ma anche perché quindi "
    "solo molto molta più meno poco tutto tutta tutti tutte ogni altro altra altri altre stesso stessa questo questa "
    "questi queste quello quella quelli quelle è sono essere ha hanno avere ci si ti mi vi ne lui lei loro suo sua "
    "suoi sue tuo tua mai sempre mentre se allora così ancora vicino lontano adesso ora qui lì nulla niente nessuno "
    "qualche alcuni fare fai deve devi può puoi bisogna apri aprire cerca cercare prendi prendere metti mettere vai "
    "controlla guarda compra scegli clicca usa lascia finché appena invece ed od stato stata sarà sia nuovo nuova "
    "nessuna ciascuno entrambi posto volta volte meglio ecco coi col inserisci seleziona torna comincia stessi",
    "ca": "el la els les un una uns unes de del dels al als en amb per sense sobre sota entre fins des abans després "
    "llavors primer ja no ni que què si com quan on qui però perquè també només molt més menys poc tot tota tots "
    "totes cada altre altra altres mateix aquest aquesta això és són està ser hi ha té tenir fer ho li seu seva seus "
    "mai sempre mentre encara així dins fora prop ara aquí allà res algun cap obre cerca agafa posa mira compra pel "
    "pels ves vés has pots cal aquests aquestes sigui sinó doncs vegada lloc nou nova aquell",
    "ro": "un niște al ai ale de din la în pe cu fără pentru prin spre între până sub peste înainte după apoi întâi "
    "mai nu nici că ce care cine cum când unde dar și sau deci dacă doar numai foarte mult puțin tot toate toți "
    "fiecare alt altă alte același acest această aceste acel este sunt fi era are au avea se te îl îi îți le lor lui "
    "ei său sa sale tău ta niciodată întotdeauna mereu deja încă acum aici acolo nimic ceva face trebuie poate poți "
    "deschide caută ia pune mergi verifică cumpără alege lasă folosește uită înăuntru lângă dintre într dintr fost "
    "fie nou nouă loc dată ori acestea aceștia prea unei unui câte",
    "de": "der die das den dem des ein eine einen einem einer eines kein keine keinen und oder aber denn sondern weil "
    "dass daß wenn ob als wie wo wer was wann warum in im ins an am auf aus bei beim bis durch für gegen mit nach "
    "ohne um unter über von vom vor vorher zu zum zur zuerst zwischen hinter neben dann danach erst schon noch nur "
    "auch nicht nie niemals immer sehr mehr weniger viel alle alles jede jeden jeder jedes andere anderen anderer "
    "gleich diese diesen dieser dieses ist sind war sein wird werden hat haben kann kannst muss musst soll sollte "
    "darf ich du er sie es wir ihr ihn ihm ihnen sich dich dir mir mich dein deine deinen man bevor nachdem während "
    "sobald damit dort hier jetzt heraus hinein darin dabei etwas nichts öffne öffnen nimm nehmen suche suchen lege "
    "stelle gehe geh prüfe prüfen schau kaufe wähle klicke lass bringe mach wurde wurden wäre bitte neu neue neuen "
    "eigenen beide mal ort wieder zurück sonst falls solange weg",
    "nl": "de het een van der den en of maar want omdat dat als hoe waar wie wat wanneer waarom in op aan bij uit "
    "naar door voor tegen met na zonder om onder over tot tussen achter naast boven dan daarna eerst al nog alleen "
    "ook niet geen nooit altijd zeer heel meer minder veel alle alles elk elke ieder iedere ander andere anderen "
    "zelfde deze dit die is zijn was wordt worden heeft hebben kan kun moet moeten zal mag ik jij je hij zij ze wij "
    "we jullie hem haar hen zich jouw mijn men voordat nadat terwijl zodra er daar hier nu erin iets niets open pak "
    "neem zoek leg zet ga kijk controleer koop kies klik laat breng vind doe gebruik eens te werd zodat wel weer "
    "terug beide nieuw nieuwe plek keer bent heb uw bijvoorbeeld steeds goed goede",
    "sv": "en ett den det de och eller men för att som när var hur vad vem varför på av från till med utan om under "
    "över mellan bakom bredvid hos innan efter sedan först redan ännu bara också inte aldrig alltid mycket mer mindre "
    "alla allt varje annan annat andra samma denna detta dessa är vara har hade ha kan ska skall måste bör får jag du "
    "han hon vi ni dem dig sig sin sitt sina din ditt dina min man medan där här nu något ingenting inget ingen inga "
    "öppna ta sök leta lägg ställ gå titta kontrollera köp välj klicka låt hitta gör använd då så in ut upp ner ur "
    "vid mot åt tills därefter blir blev ny nya plats gång åter tillbaka både annars gärna vilken vilket genom samt "
    "börja",
    "da": "en et den det de og eller men for at som når hvor hvordan hva hvad hvem hvorfor på av af fra til med uten "
    "uden om under over mellom mellem bak bag ved hos før etter efter siden derefter først allerede ennå endnu bare "
    "kun også ikke ikkje aldri aldrig alltid altid mye meget mer mere mindre alle alt hver hvert annen anden annet "
    "andet andre samme denne dette disse er var være har hadde havde ha kan skal må bør får jeg du han hun vi dem deg "
    "dig seg sig sin sitt sit sine din ditt dit dine man mens der her nå nu noe noget ingenting intet ingen åpne åbn "
    "ta tag søk søg let legg læg sett sæt gå se kig sjekk tjek kjøp køb velg vælg klikk klik finn find gjør gør bruk "
    "brug inn ind ut ud opp op ned mot mod bliver ble blev så ny nye sted gang gange tilbage både ellers hvilken "
    "hvilket gennem samt begynn begynd ad",
    "fi": "ja tai mutta että jos kun kuin koska vaan sekä joka jotka jonka mikä mitä missä mistä mihin minne miten "
    "milloin kuka on ovat oli olla ole ei eivät älä älkää voi voit pitää täytyy se sen sitä siitä siinä siihen sille "
    "ne niitä niiden tämä tämän tätä tästä nämä hän sinä minä me te he vain myös jo vielä aina koskaan ensin sitten "
    "ennen jälkeen kunnes ilman kanssa varten kohti alla päällä vieressä luona sisällä ulos sisään pois takaisin "
    "kaikki kaikkia jokainen toinen toisen muut muita sama saman hyvin enemmän vähemmän paljon nyt täällä siellä "
    "jotain mitään avaa ota etsi laita aseta mene katso tarkista osta valitse paina vie käytä yksi kaksi eli jotta "
    "onko ettei eikä mikäli siis sillä joten joita jota jossa johon josta näitä niissä sinun minun hänen olet olen "
    "olisi ollut tulee tulla paikka kertaa uusi aloita muista palaa lue pese valmis kunhan mukaan välillä alle yli",
    "et": "ja või aga et kui sest ka ning mis kes kus kuidas millal miks on oli olla ole ei ära ärge saab võib peab "
    "see selle seda sellest need neid ta tema sa sina ma mina me te nad ainult juba veel alati kunagi enne pärast "
    "siis esmalt kuni ilma koos jaoks poole all peal kõrval juures sees välja sisse tagasi kõik iga teine teise muu "
    "sama väga rohkem vähem palju nüüd siin seal midagi ava võta otsi pane mine vaata kontrolli osta vali vii kasuta "
    "olid oleks võid pole selles sellel kuhu kust nii jälle uus koht kord alusta loe alla üle vahel kõiki tuleb mitte",
    "hu": "az egy és vagy de hogy ha mert mint ami amely aki ahol amikor mikor mi ki hol hogyan miért van vannak volt "
    "lesz legyen nem ne nincs sem kell lehet tud ezt azt ez ezek azok ebben abban ő én te ti ők csak is már még "
    "mindig soha először aztán majd után előtt mielőtt miután amíg nélkül alatt felett mellett között felé ból ből "
    "minden mindent másik más ugyanaz nagyon több kevesebb sok most itt ott valami semmi nyisd nyiss nyissa vedd "
    "vegye vegyél keresd keress tedd tegye menj nézd nézz ellenőrizd vásárolj válaszd válassz kattints hagyd használd "
    "be fel le meg el oda bele hozzá azután utána akkor volna lenne voltak vagyis ahhoz arra erre ennek annak melyik "
    "melyet össze vissza tovább újra mások ezután helyen kezdd olvasd szerint például esetén lévő közül",
    "pl": "nie jest są być był była było się że żeby aby jeśli jeżeli gdy kiedy gdzie jak co kto który która które "
    "których czy ale lecz bo ponieważ lub albo oraz też także tylko już jeszcze zawsze nigdy najpierw potem następnie "
    "zanim przed po aż do dla od ode ze na nad pod przy przez bez za między obok ku we tym tej tego ten ta te to ci "
    "tych temu jego jej ich go mu ją im każdy każdą każde wszystko wszystkie wszystkich inny inna inne innych sam "
    "bardzo więcej mniej dużo teraz tutaj tu tam coś nic można trzeba należy może możesz musisz ma masz mają otwórz "
    "weź szukaj znajdź połóż włóż odłóż postaw idź sprawdź zobacz kup wybierz kliknij zostaw użyj przejdź zrób bądź "
    "by jako niż więc jedną jeden dwa swój swoje będzie będą został została zostało zostały jestem jesteś dwóch "
    "swojego ponownie miejsce razy raz nowy nowa nowe proszę żaden żadnego zacznij wróć przeczytaj podczas niej nim "
    "nich wszystkimi mieć robić razu bardziej najbardziej",
    "cs": "není je jsou být byl byla bylo se si že aby pokud když kde jak co kdo který která které jestli ale nebo "
    "protože také jen jenom pouze už ještě vždy nikdy nejprve nejdřív potom pak poté než před po až do pro od ze na "
    "nad pod při přes bez za mezi vedle ke ku ve tom té toho ten ta to ty těch tomu jeho její jejich ho mu ji jim "
    "každý každou každé všechno všechny všech jiný jiná jiné stejný velmi více méně mnoho teď nyní tady zde tam něco "
    "nic lze musíš můžeš může má máš mají otevři otevřete vezmi vezměte hledej najdi polož vlož jdi běž zkontroluj "
    "podívej kup vyber klikni nech použij nie sú byť bol sa ak keď ako čo kto ktorý ktorá ktoré či alebo pretože tiež "
    "iba ešte najprv najskôr pred pri cez medzi vedľa vo zo toto jej ich každú všetko všetky iný veľmi viac menej "
    "teraz tu niečo nič treba môžeš otvor zober hľadaj nájdi choď skontroluj pozri nechaj použi dovnitř ven bude "
    "budou byly jsem jsi tuto tyto této těchto vaše svůj své znovu zkuste prosím žádný žádné místo místě jednou "
    "dvakrát nový nová nové začni vrať přečti podle během nichž další dokud zatímco zda což buď svoje tak aj bola "
    "bolo boli tento táto tieto ktorú keďže znova podľa počas ďalší dokiaľ",
    "hr": "nije je su biti bio bila bilo će se da ako kad kada gdje gde kako što šta tko ko koji koja koje čiji li "
    "ali ili jer također takođe samo već još uvijek uvek nikad nikada prvo zatim onda potom nakon prije pre do za od "
    "iz na nad pod pri kroz bez između pored ka sa toga tome taj ta to ti tih ovaj ova ovo njegov njen njihov ga mu "
    "ju im ih svaki svaku svako sve svi svih drugi druga drugo isti vrlo veoma više manje mnogo puno sada ovdje ovde "
    "tamo nešto ništa treba možeš može moraš mora ima imaš imaju nema nemoj otvori uzmi traži potraži stavi idi "
    "provjeri proveri pogledaj kupi odaberi izaberi klikni ostavi koristi ne jedan jednu dok čim ni niti bit ćeš budi "
    "svoj svoje ponovno ponovo mjesto mesto jednom dva puta novi nova novo počni vrati pročitaj tijekom tokom koju "
    "kojeg kojem ovog ove one oni ono smo ste nisu jesu molimo",
    "tr": "ve veya ya ile için gibi kadar göre sonra önce ilk daha çok az en bir bu şu bunu onu onun buna ona bunlar "
    "onlar ben sen biz siz de da ki mi mı mu mü ne nasıl nerede nereye neden niçin hangi kim değil yok var olan "
    "olarak olur oldu olduğu olduğunu olmak ise eğer ama fakat ancak çünkü hem her hep hiç tüm bütün başka diğer aynı "
    "sadece yalnızca bile artık hemen şimdi burada orada içinde içine içini üzerine üstüne altına altında yanına "
    "yanında arasında doğru karşı dışında tekrar yine asla daima zaman şey şeyi aç al ara bul koy git bak kontrol et "
    "yap seç satın tıkla bırak kullan kapat getir edin etme gerek gerekir gerekiyor lazım ediyor yoksa varsa "
    "olmadığını olmayan oldukça üzerinde üzerindeki içindeki altındaki yer yeri yeni defa kez kere geri tümü tamamı "
    "kendi lütfen böyle öyle şekilde yapın olun edilen edildi tane birden ilgili başla dön sakın eder edilir olması",
    "vi": "và hoặc hay nhưng vì nếu thì khi lúc mà để của cho với trong ngoài trên dưới bên cạnh giữa trước sau từ "
    "đến tới vào ra lên xuống là có không chưa đã đang sẽ được bị phải cần nên hãy đừng chớ rồi cũng chỉ vẫn luôn bao "
    "giờ đầu tiên tiếp theo này đó kia ấy đây những các một hai mỗi mọi tất cả khác cùng như rất hơn nhất nhiều ít "
    "nào gì ai đâu sao bạn nó họ tôi mình mở lấy tìm đặt đi nhìn xem kiểm tra mua chọn nhấp bấm dùng cái chiếc con "
    "món thứ việc nơi chỗ lại nữa ngay thấy bằng về",
    "id": "dan atau tetapi tapi karena jika kalau bila ketika saat apabila maka yang untuk dari ke di pada dengan "
    "tanpa dalam luar atas bawah antara sebelum sesudah setelah sampai hingga sejak oleh tentang seperti adalah ialah "
    "ada tidak bukan belum sudah telah sedang akan bisa dapat harus perlu jangan boleh juga hanya masih selalu pernah "
    "dulu dahulu pertama lalu kemudian ini itu tersebut sini situ sana semua setiap tiap lain sama sangat lebih "
    "kurang paling banyak sedikit apa siapa mana kapan bagaimana mengapa anda kamu dia mereka kami kita saya nya "
    "sebuah suatu seorang satu dua agar supaya sambil selama daripada bahwa buka ambil cari letakkan taruh simpan "
    "pergi lihat periksa beli pilih klik gunakan pakai bawa masukkan tutup mencari mengambil membuka melihat sekarang "
    "segera sebagai para secara tak awak memiliki mungkin seluruh apakah tempat benda barang baru kali ulang kembali "
    "mulai baca cuci ingat pastikan sehingga setidaknya berikut maupun ataupun serta yakni yaitu bukanlah kepada "
    "terhadap melalui menjadi melakukan membeli menggunakan memilih mengetahui masuk keluar terlalu banyaknya milik "
    "sering semuanya",
    "tl": "ang ng mga sa na ay at kung kapag dahil para nang ito iyon iyan niya nila siya sila ka mo ko ikaw kayo "
    "tayo hindi huwag wala may mayroon lahat bawat iba pang pa din rin lang lamang muna bago pagkatapos saka habang "
    "hanggang mula tungkol kaysa dapat kailangan puwede maaari buksan kunin hanapin ilagay pumunta tingnan suriin "
    "bilhin piliin gamitin loob labas ibabaw ilalim dito doon diyan ngayon palagi kailanman ano sino saan paano "
    "maging gayundin nito niyang nasa walang isang bawal upang kanya kanila natin namin atin amin",
    "ru": "и в во на не что как с со к ко у о об от из за по до для при без под над между через перед после потом "
    "затем сначала сперва если когда где куда чтобы потому или либо но а же ли бы то это этот эта эти тот та те его "
    "её ее их он она они оно мы вы ты я был была было быть есть нет нужно надо можно может можешь должен уже ещё еще "
    "только также тоже всегда никогда все всё весь вся каждый каждую каждое другой другую другие тем чем очень больше "
    "меньше здесь там сейчас теперь который которая которые которую ничего открой возьми ищи найди положи поставь иди "
    "проверь посмотри купи выбери нажми оставь используй так пока себя внутри буду будет будут этого этой эту этом "
    "того той нём нее неё них нас вам вас себе свой свою снова раз место новый новая прочитай начни вернись почему "
    "ничто никто прежде",
    "uk": "і й та в у на не що як з із зі до від за по для при без під над між через перед після потім спочатку "
    "спершу якщо коли де куди щоб тому бо або чи але а ж би це цей ця ці той те його її їх він вона вони воно ми ви "
    "ти я був була було бути є немає ні треба потрібно можна може можеш повинен вже ще тільки лише також теж завжди "
    "ніколи все всі весь кожен кожну кожне інший іншу інші тим ніж дуже більше менше тут там зараз тепер який яка які "
    "яку нічого щось відкрий візьми шукай знайди поклади постав іди перевір подивись купи вибери обери натисни залиш "
    "використовуй так поки себе всередині буде будуть цього цієї цю цьому того тієї нього неї них нас вам вас собі "
    "свій свою знову раз місце новий нова прочитай почни повернись чому ніщо ніхто перш доки аби увесь двічі саме",
    "bg": "и в във на не че как с със к от из за по до при без под над между през пред след после първо преди ако "
    "когато къде да защото или но а това този тази тези той тя те то го му я им ги ние вие ти аз беше бяха е са съм "
    "има няма трябва може можеш вече още само също винаги никога всичко всички всеки всяка всяко друг друга други "
    "много повече тук там сега който която което които нищо нещо отвори вземи търси намери сложи постави иди провери "
    "виж купи избери натисни остави използвай докато себе вътре ще",
}  # fmt: skip
_FREQUENT = {language: frozenset(text.split()) for language, text in _TEXTS.items()}
_ENGLISH = "en"
_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzабвгдежзийклмнопрстуфхцчшщъыьэюяё")
_ACCENTS = {
    "es": "áéíóúüñ", "pt": "áâãàçéêíóôõú", "fr": "àâæçéèêëîïôœùûü", "it": "àèéìòù", "ca": "àçéèíïóòúü", "ro": "ăâîșțşţ",
    "de": "äöüß", "nl": "ëïé", "sv": "åäö", "da": "æøå", "fi": "äö", "et": "äöõü", "hu": "áéíóöőúüű", "pl": "ąćęłńóśźż",
    "cs": "áäčďéěíĺľňóôŕřšťúůýž", "hr": "čćđšž", "tr": "çğıöşüâ",
    "vi": "àáâãèéêìíòóôõùúýăđĩũơưạảấầẩẫậắằẳẵặẹẻẽếềểễệỉịọỏốồổỗộớờởỡợụủứừửữựỳỵỷỹ",
    "uk": "іїєґ",
}  # fmt: skip


def is_foreign(text: str, *shown: str) -> bool:
    """Returns whether a text is clearly in a language that is neither English nor one of the texts shown.

    A text is in another script where most of its letters are, and in another language where its frequent words are that
    language's. What a text shown has a word of speaks for nothing; where none of them speaks for any language, only the
    script is looked at.
    """
    letters = [letter for letter in text if letter.isalpha()]
    scripts = {script for one in shown for script in _scripts(one)}
    if not scripts:
        return False
    if sum(_script(letter) not in scripts | {"LATIN"} for letter in letters) > len(letters) / 2:
        return True
    spoken = [languages for one in shown if len(languages := _spoken(one)) < len(_FREQUENT)]
    named = {word for one in shown for word in _words(one)}
    return bool(spoken) and _is_another(text, {_ENGLISH}.union(*spoken), named)


def _is_another(text: str, known: Collection[str], named: Collection[str]) -> bool:
    """Returns whether the words of a text speak for a language that is not among those known."""
    languages, uttered = [_languages(word) for word in _words(text)], _uttered(text)
    if len(uttered) < len(languages) / 2:
        return False  # mostly names
    strange = [word for word in uttered if word not in named and _languages(word).isdisjoint(known)]
    for language in _FREQUENT.keys() - known:
        spoken = [word for word in strange if language in _languages(word)]
        against = sum(language not in own and not own.isdisjoint(known) for own in languages)
        frequent = _FREQUENT[language].intersection(spoken)
        if frequent and len(set(spoken)) >= _LEAST and len(spoken) > _MARGIN * against:
            return True
    return False


def _spoken(text: str) -> frozenset[str]:
    """Returns the languages that a text may be in: all of them where it does not speak clearly for any."""
    words = [_languages(word) for word in _words(text)]
    counts = Counter(language for own in words for language in own)
    main = max(_FREQUENT, key=lambda language: counts[language])
    shared = Counter(language for own in words if main in own for language in own)
    return frozenset(
        language
        for language in _FREQUENT
        if counts[main] - shared[language]
        < max(_LEAST_SHOWN, _SHARE_SHOWN * len(words), _MINOR * (counts[language] - shared[language]))
    )


@lru_cache(maxsize=65536)
def _languages(word: str) -> frozenset[str]:
    """Returns the languages that a word speaks for: it is frequent there, or its accents are those of the language."""
    beyond = set(word) - _PLAIN
    accented = (language for language, accents in _ACCENTS.items() if beyond and beyond.issubset(accents))
    return frozenset(language for language, own in _FREQUENT.items() if word in own).union(accented)


def _uttered(text: str) -> list[str]:
    """Returns the words that can speak for a language: no capitals but at a beginning, no letter of the alphabet."""
    found = [(match[0], match.start()) for match in _WORD.finditer(text)]
    return [
        _lower(word)
        for word, at in found
        if not _is_letter(word) and (word.islower() or _BEGINS.search(text, max(0, at - 5), at))
    ]


def _words(text: str) -> list[str]:
    return [_lower(word) for word in _WORD.findall(text) if not _is_letter(word)]


def _is_letter(word: str) -> bool:
    """Returns whether a word is a single letter of the alphabet: a size, an option, or a word of many languages."""
    return len(word) == 1 and word.isascii()


def _lower(word: str) -> str:
    return word.replace("İ", "i").lower()


def _scripts(text: str) -> set[str]:
    """Returns the scripts of a text that more than a few of its letters are of."""
    counts = Counter(_script(letter) for letter in text if letter.isalpha())
    return {script for script, count in counts.items() if count >= _MINOR_SCRIPT * counts.total()}


def _script(letter: str) -> str:
    return unicodedata.name(letter, "").partition(" ")[0]
