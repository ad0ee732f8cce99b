"""Advice in a language that nobody asked for is told from names, and from advice in English and in the task's own."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from d2skill.reflectors.language_filter import is_foreign

TASK = "Your task is to: put a clean mug in desk."
ADVICE = {
    "es": """
        Abre la nevera antes de buscar la manzana en los armarios.
        Si no ves el objeto en la mesa, revisa primero los cajones de la cocina.
        Lava la taza en el fregadero y luego colócala en la cafetera.
        No compres nada hasta comprobar que el color y la talla son los pedidos.
        Busca el producto con pocas palabras y compara los precios de los resultados.
        Enfría el tomate en el frigorífico y después llévalo a la encimera.
        Cuando un cajón esté cerrado, ábrelo para ver lo que hay dentro.
        Elige la opción correcta antes de pulsar el botón de compra.
        Recuerda dónde estaban las cosas para no buscar dos veces en el mismo sitio.
        Toma solamente un objeto a la vez, porque no puedes llevar dos.
        Vuelve a la página anterior si el artículo cuesta más de lo permitido.
        Enciende la lámpara del escritorio mientras sostienes el libro.
        Calienta la patata con el microondas sin sacarla de su plato.
        Lee la descripción completa del artículo para saber si es resistente al agua.
        Empieza por los lugares más probables: el sofá, la cama y la mesita.
    """,
    "de": """
        Öffne zuerst den Kühlschrank, bevor du den Apfel in den Schränken suchst.
        Wenn der Gegenstand nicht auf dem Tisch liegt, prüfe die Schubladen in der Küche.
        Wasche die Tasse im Spülbecken und stelle sie dann auf die Kaffeemaschine.
        Kaufe nichts, solange Farbe und Größe nicht zur Aufgabe passen.
        Suche das Produkt mit wenigen Wörtern und vergleiche die Preise der Treffer.
        Kühle die Tomate im Kühlschrank und bringe sie danach zur Arbeitsplatte.
        Ist eine Schublade geschlossen, dann mach sie auf und sieh hinein.
        Wähle die richtige Option, bevor du auf den Knopf zum Kaufen klickst.
        Merke dir, wo die Dinge lagen, damit du keinen Ort zweimal absuchst.
        Nimm immer nur einen Gegenstand mit, denn zwei kannst du nicht tragen.
        Geh zur vorigen Seite zurück, falls der Artikel mehr kostet als erlaubt.
        Schalte die Lampe am Schreibtisch ein, während du das Buch hältst.
        Erhitze die Kartoffel in der Mikrowelle und lege sie auf den Teller.
        Lies die ganze Beschreibung, um zu wissen, ob die Jacke wasserdicht ist.
        Beginne mit den wahrscheinlichsten Orten: dem Sofa, dem Bett und dem Nachttisch.
    """,
    "fr": """
        Ouvre le réfrigérateur avant de chercher la pomme dans les placards.
        Si l'objet n'est pas sur la table, regarde d'abord dans les tiroirs de la cuisine.
        Lave la tasse dans l'évier, puis pose-la sur la cafetière.
        N'achète rien tant que la couleur et la taille ne sont pas celles demandées.
        Cherche le produit avec peu de mots et compare les prix des résultats.
        Refroidis la tomate au frigo, ensuite apporte-la sur le plan de travail.
        Quand un tiroir est fermé, ouvre-le pour voir ce qu'il contient.
        Choisis la bonne option avant d'appuyer sur le bouton d'achat.
        Retiens où se trouvaient les choses pour ne pas fouiller deux fois le même endroit.
        Ne prends qu'un seul objet à la fois, car tu ne peux pas en porter deux.
        Reviens à la page précédente si l'article coûte plus que le prix permis.
        Allume la lampe du bureau pendant que tu tiens le livre.
        Réchauffe la pomme de terre au micro-ondes sans la sortir de son assiette.
        Lis toute la description pour savoir si la veste est imperméable.
        Commence par les endroits les plus probables : le canapé, le lit et la table de nuit.
    """,
    "it": """
        Apri il frigorifero prima di cercare la mela negli armadietti.
        Se l'oggetto non è sul tavolo, controlla prima i cassetti della cucina.
        Lava la tazza nel lavandino e poi mettila sulla macchina del caffè.
        Non comprare niente finché il colore e la taglia non sono quelli richiesti.
        Cerca il prodotto con poche parole e confronta i prezzi dei risultati.
        Raffredda il pomodoro nel frigo e dopo portalo sul piano di lavoro.
        Quando un cassetto è chiuso, aprilo per vedere cosa c'è dentro.
        Scegli l'opzione giusta prima di premere il pulsante di acquisto.
        Ricorda dove erano le cose per non cercare due volte nello stesso posto.
        Prendi un solo oggetto alla volta, perché non puoi portarne due.
        Torna alla pagina precedente se l'articolo costa più del prezzo consentito.
        Accendi la lampada della scrivania mentre tieni il libro in mano.
        Scalda la patata nel microonde senza toglierla dal suo piatto.
        Leggi tutta la descrizione per sapere se la giacca è impermeabile.
        Comincia dai posti più probabili: il divano, il letto e il comodino.
    """,
    "pt": """
        Abra a geladeira antes de procurar a maçã nos armários.
        Se o objeto não estiver na mesa, verifique primeiro as gavetas da cozinha.
        Lave a caneca na pia e depois coloque-a na cafeteira.
        Não compre nada até confirmar que a cor e o tamanho são os pedidos.
        Procure o produto com poucas palavras e compare os preços dos resultados.
        Esfrie o tomate na geladeira e em seguida leve-o para a bancada.
        Quando uma gaveta estiver fechada, abra-a para ver o que há dentro.
        Escolha a opção certa antes de apertar o botão de compra.
        Lembre onde estavam as coisas para não procurar duas vezes no mesmo lugar.
        Pegue apenas um objeto de cada vez, porque você não pode levar dois.
        Volte à página anterior se o artigo custar mais do que o permitido.
        Acenda a lâmpada da escrivaninha enquanto segura o livro.
        Aqueça a batata no micro-ondas sem tirá-la do seu prato.
        Leia toda a descrição para saber se o casaco é impermeável.
        Comece pelos lugares mais prováveis: o sofá, a cama e o criado-mudo.
    """,
    "nl": """
        Open de koelkast voordat je de appel in de kastjes zoekt.
        Als het voorwerp niet op tafel ligt, kijk dan eerst in de keukenladen.
        Was de mok in de gootsteen en zet hem daarna op het koffieapparaat.
        Koop niets zolang de kleur en de maat niet bij de opdracht passen.
        Zoek het product met weinig woorden en vergelijk de prijzen van de resultaten.
        Koel de tomaat in de koelkast en breng hem dan naar het aanrecht.
        Is een lade dicht, maak hem dan open en kijk wat erin ligt.
        Kies de juiste optie voordat je op de knop om te kopen klikt.
        Onthoud waar de spullen lagen, zodat je geen plek twee keer doorzoekt.
        Pak altijd maar een voorwerp tegelijk, want twee kun je niet dragen.
        Ga terug naar de vorige pagina als het artikel meer kost dan mag.
        Doe de lamp op het bureau aan terwijl je het boek vasthoudt.
        Verwarm de aardappel in de magnetron zonder hem van het bord te halen.
        Lees de hele beschrijving om te weten of de jas waterdicht is.
        Begin met de meest waarschijnlijke plekken: de bank, het bed en het nachtkastje.
    """,
    "sv": """
        Öppna kylskåpet innan du letar efter äpplet i skåpen.
        Om föremålet inte ligger på bordet, titta först i kökets lådor.
        Diska muggen i diskhon och ställ den sedan på kaffebryggaren.
        Köp ingenting förrän färgen och storleken är de rätta.
        Sök efter varan med få ord och jämför priserna i resultaten.
        Kyl tomaten i kylskåpet och bär den därefter till köksbänken.
        När en låda är stängd ska du öppna den och se vad som finns där.
        Välj rätt alternativ innan du klickar på knappen för att köpa.
        Kom ihåg var sakerna låg så att du inte letar två gånger på samma ställe.
        Ta bara en sak åt gången, för du kan inte bära två.
        Gå tillbaka till förra sidan om varan kostar mer än tillåtet.
        Tänd lampan på skrivbordet medan du håller i boken.
        Värm potatisen i mikrovågsugnen utan att ta den från tallriken.
        Läs hela beskrivningen för att veta om jackan är vattentät.
        Börja med de mest troliga platserna: soffan, sängen och nattduksbordet.
    """,
    "da": """
        Åbn køleskabet, før du leder efter æblet i skabene.
        Hvis tingen ikke ligger på bordet, så se først i køkkenets skuffer.
        Vask kruset i vasken og stil det derefter på kaffemaskinen.
        Køb ikke noget, før farven og størrelsen er de rigtige.
        Søg efter varen med få ord og sammenlign priserne i resultaterne.
        Køl tomaten i køleskabet og bær den så hen til køkkenbordet.
        Når en skuffe er lukket, skal du åbne den og se, hvad der er i den.
        Vælg den rigtige mulighed, før du klikker på knappen for at købe.
        Husk, hvor tingene lå, så du ikke leder to gange på samme sted.
        Tag kun en ting ad gangen, for du kan ikke bære to.
        Gå tilbage til forrige side, hvis varen koster mere end tilladt.
        Tænd lampen på skrivebordet, mens du holder bogen.
        Varm kartoflen i mikroovnen uden at tage den fra tallerkenen.
        Læs hele beskrivelsen for at vide, om jakken er vandtæt.
        Begynd med de mest sandsynlige steder: sofaen, sengen og natbordet.
    """,
    "pl": """
        Otwórz lodówkę, zanim zaczniesz szukać jabłka w szafkach.
        Jeśli przedmiotu nie ma na stole, najpierw sprawdź szuflady w kuchni.
        Umyj kubek w zlewie, a potem postaw go na ekspresie do kawy.
        Nie kupuj niczego, dopóki kolor i rozmiar nie zgadzają się z zadaniem.
        Szukaj produktu za pomocą kilku słów i porównaj ceny wyników.
        Schłodź pomidora w lodówce i zanieś go następnie na blat.
        Gdy szuflada jest zamknięta, otwórz ją i zobacz, co jest w środku.
        Wybierz właściwą opcję, zanim klikniesz przycisk zakupu.
        Zapamiętaj, gdzie były rzeczy, żeby nie szukać dwa razy w tym samym miejscu.
        Bierz tylko jeden przedmiot naraz, bo dwóch nie możesz unieść.
        Wróć do poprzedniej strony, jeśli artykuł kosztuje więcej niż wolno.
        Zapal lampę na biurku, trzymając w ręku książkę.
        Podgrzej ziemniaka w mikrofalówce bez zdejmowania go z talerza.
        Przeczytaj cały opis, żeby wiedzieć, czy kurtka jest wodoodporna.
        Zacznij od najbardziej prawdopodobnych miejsc: kanapy, łóżka i szafki nocnej.
    """,
    "cs": """
        Otevři ledničku, než začneš hledat jablko ve skříňkách.
        Pokud věc není na stole, nejdřív zkontroluj zásuvky v kuchyni.
        Umyj hrnek ve dřezu a potom ho postav na kávovar.
        Nekupuj nic, dokud barva a velikost neodpovídají zadání.
        Hledej zboží pomocí několika slov a porovnej ceny výsledků.
        Ochlaď rajče v lednici a pak je odnes na kuchyňskou linku.
        Když je zásuvka zavřená, otevři ji a podívej se, co je uvnitř.
        Vyber správnou možnost, než klikneš na tlačítko nákupu.
        Pamatuj si, kde věci byly, abys nehledal dvakrát na stejném místě.
        Ber vždy jen jednu věc, protože dvě najednou neuneseš.
        Vrať se na předchozí stránku, jestli výrobek stojí více, než je dovoleno.
        Rozsviť lampu na stole, zatímco držíš knihu v ruce.
        Ohřej bramboru v mikrovlnce a nesundávej ji z talíře.
        Přečti si celý popis, abys věděl, zda je bunda nepromokavá.
        Začni na nejpravděpodobnějších místech: pohovka, postel a noční stolek.
    """,
    "tr": """
        Elmayı dolaplarda aramadan önce buzdolabını aç ve içine bak.
        Eşya masada yoksa önce mutfaktaki çekmeceleri kontrol et.
        Bardağı lavaboda yıka, sonra kahve makinesinin üzerine koy.
        Renk ve beden istenenle aynı değilse hiçbir şey satın alma.
        Ürünü az kelimeyle ara ve sonuçların fiyatlarını karşılaştır.
        Domatesi buzdolabında soğut ve daha sonra tezgaha götür.
        Bir çekmece kapalıysa onu aç ve içinde ne olduğuna bak.
        Satın alma düğmesine basmadan önce doğru seçeneği seç.
        Aynı yeri iki kez aramamak için eşyaların nerede olduğunu hatırla.
        Her seferinde sadece bir eşya al, çünkü iki tane taşıyamazsın.
        Ürün izin verilenden daha pahalıysa önceki sayfaya geri dön.
        Kitabı elinde tutarken masanın üzerindeki lambayı yak.
        Patatesi tabağından çıkarmadan mikrodalga fırında ısıt.
        Ceketin su geçirmez olup olmadığını anlamak için açıklamanın tamamını oku.
        En olası yerlerden başla: kanepe, yatak ve komodin gibi.
    """,
    "vi": """
        Mở tủ lạnh trước khi tìm quả táo trong các tủ bếp.
        Nếu đồ vật không ở trên bàn, hãy kiểm tra các ngăn kéo trong bếp trước.
        Rửa cốc trong bồn rồi đặt nó lên máy pha cà phê.
        Đừng mua gì khi màu sắc và kích cỡ chưa đúng yêu cầu.
        Tìm sản phẩm bằng vài từ và so sánh giá của các kết quả.
        Làm lạnh cà chua trong tủ lạnh rồi mang nó ra mặt bếp.
        Khi ngăn kéo đang đóng, hãy mở nó ra để xem bên trong có gì.
        Chọn đúng phương án trước khi bấm nút mua hàng.
        Nhớ chỗ của các đồ vật để không phải tìm hai lần ở một nơi.
        Mỗi lần chỉ lấy một món, vì bạn không thể cầm hai món.
        Quay lại trang trước nếu món hàng đắt hơn mức cho phép.
        Bật đèn trên bàn làm việc trong khi đang cầm quyển sách.
        Hâm nóng củ khoai trong lò vi sóng mà không lấy khỏi đĩa.
        Đọc toàn bộ mô tả để biết áo khoác có chống nước hay không.
        Bắt đầu từ những nơi có khả năng nhất: ghế sô pha, giường và tủ đầu giường.
    """,
    "id": """
        Buka kulkas sebelum mencari apel di dalam lemari dapur.
        Jika benda itu tidak ada di meja, periksa dulu laci di dapur.
        Cuci cangkir di wastafel lalu letakkan di mesin kopi.
        Jangan membeli apa pun sampai warna dan ukurannya sesuai permintaan.
        Cari produk dengan beberapa kata saja dan bandingkan harga semua hasil.
        Dinginkan tomat di kulkas kemudian bawa ke meja dapur.
        Kalau laci tertutup, bukalah untuk melihat apa yang ada di dalamnya.
        Pilih opsi yang benar sebelum menekan tombol beli.
        Ingat tempat semua benda agar tidak mencari dua kali di tempat yang sama.
        Ambil hanya satu benda setiap kali karena kamu tidak bisa membawa dua.
        Kembali ke halaman sebelumnya jika barang lebih mahal dari batas harga.
        Nyalakan lampu di meja kerja sambil memegang buku itu.
        Panaskan kentang dengan microwave tanpa mengeluarkannya dari piring.
        Baca seluruh deskripsi untuk mengetahui apakah jaket itu tahan air.
        Mulai dari tempat yang paling mungkin: sofa, tempat tidur, dan meja samping.
    """,
    "ro": """
        Deschide frigiderul înainte de a căuta mărul în dulapuri.
        Dacă obiectul nu este pe masă, verifică mai întâi sertarele din bucătărie.
        Spală cana în chiuvetă și apoi pune-o pe aparatul de cafea.
        Nu cumpăra nimic până când culoarea și mărimea nu sunt cele cerute.
        Caută produsul cu puține cuvinte și compară prețurile din rezultate.
        Răcește roșia în frigider și după aceea du-o pe blat.
        Când un sertar este închis, deschide-l ca să vezi ce conține.
        Alege opțiunea corectă înainte să apeși butonul de cumpărare.
        Ține minte unde erau lucrurile ca să nu cauți de două ori în același loc.
        Ia doar un obiect o dată, pentru că nu poți duce două.
        Întoarce-te la pagina anterioară dacă articolul costă mai mult decât este permis.
        Aprinde lampa de pe birou în timp ce ții cartea.
        Încălzește cartoful în cuptorul cu microunde fără să îl scoți din farfurie.
        Citește toată descrierea ca să afli dacă jacheta este impermeabilă.
        Începe cu locurile cele mai probabile: canapeaua, patul și noptiera.
    """,
    "hu": """
        Nyisd ki a hűtőt, mielőtt az almát a szekrényekben keresed.
        Ha a tárgy nincs az asztalon, először nézd meg a konyhai fiókokat.
        Mosd el a bögrét a mosogatóban, aztán tedd a kávéfőzőre.
        Ne vegyél semmit, amíg a szín és a méret nem egyezik a kéréssel.
        Keresd a terméket kevés szóval, és hasonlítsd össze az árakat.
        Hűtsd le a paradicsomot a hűtőben, majd vidd a konyhapultra.
        Ha egy fiók zárva van, nyisd ki, hogy lásd, mi van benne.
        Válaszd ki a helyes lehetőséget, mielőtt a vásárlás gombra kattintasz.
        Jegyezd meg, hol voltak a dolgok, hogy ne keress kétszer ugyanott.
        Egyszerre csak egy tárgyat vegyél fel, mert kettőt nem tudsz vinni.
        Menj vissza az előző oldalra, ha az áru drágább a megengedettnél.
        Kapcsold fel a lámpát az íróasztalon, miközben a könyvet tartod.
        Melegítsd meg a burgonyát a mikróban úgy, hogy a tányéron marad.
        Olvasd el az egész leírást, hogy tudd, vízálló-e a kabát.
        Kezdd a legvalószínűbb helyekkel: a kanapéval, az ággyal és az éjjeliszekrénnyel.
    """,
    "fi": """
        Avaa jääkaappi ennen kuin etsit omenaa kaapeista.
        Jos esine ei ole pöydällä, katso ensin keittiön laatikoista.
        Pese muki altaassa ja laita se sitten kahvinkeittimen päälle.
        Älä osta mitään ennen kuin väri ja koko ovat oikeat.
        Etsi tuotetta muutamalla sanalla ja vertaa tulosten hintoja.
        Jäähdytä tomaatti jääkaapissa ja vie se sitten työtasolle.
        Kun laatikko on kiinni, avaa se ja katso, mitä sen sisällä on.
        Valitse oikea vaihtoehto ennen kuin painat ostopainiketta.
        Muista, missä tavarat olivat, jotta et etsi samasta paikasta kahdesti.
        Ota vain yksi esine kerrallaan, koska et voi kantaa kahta.
        Palaa edelliselle sivulle, jos tuote maksaa enemmän kuin on sallittu.
        Sytytä pöydän lamppu samalla kun pidät kirjaa kädessä.
        Lämmitä peruna mikrossa niin, että se pysyy lautasella.
        Lue koko kuvaus, jotta tiedät, onko takki vedenpitävä.
        Aloita todennäköisimmistä paikoista: sohvasta, sängystä ja yöpöydästä.
    """,
    "uk": """
        Відкрий холодильник, перш ніж шукати яблуко в шафах.
        Якщо речі немає на столі, спочатку перевір шухляди на кухні.
        Помий чашку в раковині, а потім постав її на кавоварку.
        Не купуй нічого, доки колір і розмір не відповідають завданню.
        Шукай товар за кількома словами та порівняй ціни результатів.
        Охолоди помідор у холодильнику й потім віднеси його на стільницю.
        Коли шухляда закрита, відкрий її та подивись, що всередині.
        Вибери правильний варіант, перш ніж натиснути кнопку купівлі.
        Запам'ятай, де були речі, щоб не шукати двічі в тому самому місці.
        Бери лише одну річ за раз, бо дві ти не зможеш нести.
        Повернись на попередню сторінку, якщо товар коштує більше, ніж дозволено.
        Увімкни лампу на столі, поки тримаєш книгу в руці.
        Розігрій картоплю в мікрохвильовці, не знімаючи її з тарілки.
        Прочитай увесь опис, щоб знати, чи куртка водонепроникна.
        Почни з найімовірніших місць: диван, ліжко та тумбочка.
    """,
}
LINES = {language: [line.strip() for line in text.strip().splitlines()] for language, text in ADVICE.items()}
OTHERS = {"uk": "Твоя задача: поставь чистую кружку на стол. Ты видишь стол и шкаф."}
SOUND = """
    Open fridge 1, then take mug 1.
    mug: look in drawer 2
    go to desk 1; take cd 3; go to safe 1; open safe 1
    sofa 1 armchair 2 sidetable 1 tvstand 1
    Bread, pan, die, bin, art, hat, gift, rot: names of things for sale.
    Search for "crème brûlée" and "dulce de leche" before you buy the cheapest one.
    Click "Café de la Casa" where the task names a coffee from Colombia.
    L'Oréal Paris Elvive, Lancôme La Vie Est Belle, Estée Lauder, Nestlé, Häagen-Dazs
    For "Les Misérables" and "Der Ring des Nibelungen", search by the composer or the author.
    Who wrote Cien años de soledad? Search the title first, then the author of the novel.
    El Niño de la Playa, Los Angeles, San Luis Obispo, Las Vegas, La Jolla
    Vitamin e, size s or m, option y, 2 in 1, w/ lid, i size large
    Choose size XL / color noir / style au lait
    Try the jalapeño salsa, the piñata and the açaí bowl, each under 30 dollars.
    dulce de leche con coco, 12 oz
    crème brûlée, café, purée, pâté, 4 each
    Buy now
"""


@pytest.mark.parametrize("language", LINES)
def test_advice_in_a_language_that_is_not_the_tasks_is_foreign(language):
    long = [line for line in LINES[language] if len(line.split()) >= 8]
    missed = [line for line in long if not is_foreign(line, OTHERS.get(language, TASK))]
    assert len(long) >= 12 and len(missed) <= 2, missed


def test_nearly_all_advice_of_eight_words_in_another_language_is_foreign():
    long = [(OTHERS.get(name, TASK), line) for name in LINES for line in LINES[name] if len(line.split()) >= 8]
    missed = [line for task, line in long if not is_foreign(line, task)]
    assert len(missed) <= 0.05 * len(long), missed


@pytest.mark.parametrize("language", LINES)
def test_a_skill_of_two_sentences_in_another_language_is_foreign(language):
    lines = LINES[language]
    skills = [f"{first}\n{second}" for first, second in zip(lines, lines[1:] + lines[:1], strict=True)]
    assert [skill for skill in skills if not is_foreign(skill, OTHERS.get(language, TASK))] == []


@pytest.mark.parametrize("language", LINES)
def test_advice_in_the_language_of_the_task_or_of_the_observations_is_not(language):
    for line, task in zip(LINES[language], reversed(LINES[language]), strict=True):
        assert not is_foreign(line, task)
        assert not is_foreign(line, TASK, task)
        assert not is_foreign(line, f"{TASK} {task}")


@pytest.mark.parametrize("task", [TASK, "take the ruby", *(lines[0] for lines in LINES.values())])
def test_names_and_english_are_never_foreign(task):
    for line in SOUND.strip().splitlines():
        assert not is_foreign(line.strip(), task), line


def test_where_no_language_is_known_nothing_in_its_script_is_foreign():
    for lines in LINES.values():
        assert not is_foreign(lines[0], "")
        assert not is_foreign(lines[0], "1 + 1 = ?")
    shelves = " ".join(f"shelf {at} cabinet {at}" for at in range(12))
    for unclear in ("ruby, desk 1", "find ruby", f"first {shelves} then"):
        assert not is_foreign(LINES["es"][0], unclear)
        assert is_foreign(LINES["uk"][0], unclear), "of another script it is"


def test_words_that_the_task_has_speak_for_nothing():
    title = "donde los otros duermen"
    task = f"You are in a room and you are to find the book that is on the shelf under the window: {title}"
    assert is_foreign(f"{title} cuando {title}", TASK)
    assert not is_foreign(f"{title} {title}", task)
    assert is_foreign(LINES["es"][0], task)


def test_the_turkish_i_is_a_letter():
    assert is_foreign("İlk kapıyı aç", TASK)


def test_a_few_letters_of_a_script_do_not_make_it_the_tasks():
    assert is_foreign("打开箱子", f"{TASK} The box says 箱.")
    assert not is_foreign("打开箱子", "箱子 in desk")


@given(st.text(), st.text())
@settings(max_examples=200, deadline=None)
def test_any_text_is_judged(text, shown):
    assert is_foreign(text, shown) in (True, False)
    assert not is_foreign(text)
    assert not is_foreign(shown, shown), "what was shown is known"
